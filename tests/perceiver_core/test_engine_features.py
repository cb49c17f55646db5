"""What training engines need: autocast, compilation, export, activation checkpointing, data parallelism, CUDA."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from perceiver_core import presets
from perceiver_core.attention import AttentionConfig
from perceiver_core.autoregressive import PerceiverAR
from perceiver_core.folding import fold_for_inference
from perceiver_core.model import EncoderConfig, PerceiverIO

SMALL = EncoderConfig(
    num_latents=6, latent_channels=16, num_self_attends=2, self_attention=AttentionConfig(num_heads=2)
)
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")),
]
on_devices = pytest.mark.parametrize("device", DEVICES)


def autoencoder() -> PerceiverIO:
    return presets.multimodal_autoencoder(
        video=presets.VideoModality(num_frames=2, size=(8, 12), bands=3),
        audio=presets.AudioModality(num_samples=64, bands=4),
        label=presets.LabelModality(num_classes=5, query_channels=20, mask_probability=0.0),
        output_channels=24,
        encoder=SMALL,
    )


def language_model() -> PerceiverIO:
    decoder = AttentionConfig(num_heads=2, qk_channels=8, v_channels=12, query_residual=False)
    return presets.masked_language_model(
        vocabulary=30, max_length=20, token_channels=12, encoder=SMALL, decoder_attention=decoder
    )


def autoregressive_model() -> PerceiverAR:
    model = presets.autoregressive_language_model(
        vocabulary=30, max_length=20, num_latents=8, channels=32, num_self_attends=2, num_heads=2
    )
    torch.nn.init.normal_(model.final.weight, std=0.2)  # at its initial zero, nothing would reach the logits
    return model


def clip(batch: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "image": torch.randn(batch, 2, 3, 8, 12, generator=generator),
        "audio": torch.randn(batch, 64, generator=generator),
        "label": torch.arange(batch) % 5,
    }


# A name, a model and its inputs: bytes, next bytes, images, several modalities, sets.
MODELS: dict[str, tuple[Callable[[], Any], Callable[[], tuple[Any, ...]]]] = {
    "language": (language_model, lambda: (torch.arange(40).view(2, 20) % 30,)),
    "autoregressive": (autoregressive_model, lambda: (torch.arange(40).view(2, 20) % 30,)),
    "image": (
        lambda: presets.image_classifier_fourier(image_size=(6, 6), num_classes=4, encoder=SMALL),
        lambda: (torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0)),),
    ),
    "autoencoder": (autoencoder, lambda: (clip(),)),
    "entities": (
        lambda: presets.entity_encoder(7, num_latents=5, latent_channels=16, num_self_attends=2, num_heads=4),
        lambda: (
            torch.randn(3, 11, 7, generator=torch.Generator().manual_seed(0)),
            torch.arange(11) < torch.tensor([[11], [4], [1]]),
        ),
    ),
}
every_model = pytest.mark.parametrize("name", MODELS)


def built(name: str, device: str = "cpu") -> tuple[Any, tuple[Any, ...]]:
    """A model with biases and norms that matter, in evaluation mode, and its inputs."""
    torch.manual_seed(0)
    build, inputs = MODELS[name]
    model = build().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.to(device), tuple(moved(value, device) for value in inputs())


def moved(value: Any, device: str) -> Any:
    return {k: v.to(device) for k, v in value.items()} if isinstance(value, dict) else value.to(device)


def tensors(outputs: Any) -> list[Tensor]:
    if isinstance(outputs, Tensor):
        return [outputs]
    return list(outputs.values() if isinstance(outputs, dict) else outputs)


def loss_of(outputs: Any) -> Tensor:
    return torch.stack([out.float().square().mean() for out in tensors(outputs)]).sum()


def assert_close(ours: Any, reference: Any, tolerance: float) -> None:
    for a, b in zip(tensors(ours), tensors(reference), strict=True):
        assert a.shape == b.shape
        assert (a.float() - b.float()).abs().max() <= tolerance * max(float(b.detach().abs().max()), 1e-3)


@on_devices
@every_model
def test_bf16_autocast_trains_close_to_float32(name: str, device: str) -> None:
    model, inputs = built(name, device)
    reference = model(*inputs)
    loss_of(reference).backward()
    expected = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    with torch.autocast(device, torch.bfloat16):
        outputs = model(*inputs)
    loss_of(outputs).backward()
    assert_close(outputs, reference, 0.05)
    found = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    total, error = torch.zeros((), device=device), torch.zeros((), device=device)
    for key, grad in found.items():
        assert grad.dtype == torch.float32 and grad.isfinite().all(), key
        total += expected[key].square().sum()
        error += (grad - expected[key]).square().sum()
    assert error.sqrt() < 0.05 * total.sqrt()


def assert_same_gradients(ours: list[Tensor], reference: list[Tensor], tolerance: float) -> None:
    """Relative to the largest gradient of the model: that of a key bias is rounding noise around zero."""
    scale = max(float(grad.abs().max()) for grad in reference)
    for a, b in zip(ours, reference, strict=True):
        assert (a - b).abs().max() <= tolerance * scale


def encode_and_decode(model: Any, inputs: tuple[Any, ...], wrap: Callable[[Any], Any]) -> Any:
    """Through `encode` and `decode` wrapped one by one; other models are called whole."""
    if not isinstance(model, PerceiverIO):
        return wrap(model)(*inputs)
    latents = wrap(model.encode)(*inputs)
    return wrap(model.decode)(latents)


@every_model
def test_encode_and_decode_compile_without_graph_breaks(name: str) -> None:
    model, inputs = built(name)
    torch._dynamo.reset()
    # `fullgraph` raises at a graph break; the eager backend leaves out code generation, which is not what is tested.
    outputs = encode_and_decode(model, inputs, lambda f: torch.compile(f, fullgraph=True, backend="eager"))
    assert_close(outputs, model(*inputs), 1e-5)


def test_a_compiled_model_trains() -> None:
    model, inputs = built("entities")
    loss_of(model(*inputs)).backward()
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    torch._dynamo.reset()
    loss_of(torch.compile(model, fullgraph=True, backend="aot_eager")(*inputs)).backward()
    assert_same_gradients([p.grad for p in model.parameters()], expected, 1e-5)


@pytest.mark.slow
@on_devices
def test_generated_code(device: str) -> None:
    model, inputs = built("entities", device)
    torch._dynamo.reset()
    with torch.no_grad():
        assert_close(torch.compile(model, fullgraph=True)(*inputs), model(*inputs), 1e-4)


@every_model
def test_export(name: str) -> None:
    model, inputs = built(name)
    program = torch.export.export(model, inputs)
    assert_close(program.module()(*inputs), model(*inputs), 1e-5)


@every_model
def test_activation_checkpointing_keeps_the_gradients(name: str) -> None:
    model, inputs = built(name)
    found = []
    for checkpointed in (False, True):
        part = model if isinstance(model, PerceiverAR) else model.encoder
        part.checkpoint_activations = checkpointed
        model.zero_grad()
        loss_of(model(*inputs)).backward()
        found.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert_same_gradients(found[1], found[0], 1e-6)


def test_activation_checkpointing_saves_memory() -> None:
    model, _ = built("image")
    kept = []
    for checkpointed in (False, True):
        model.encoder.checkpoint_activations = checkpointed
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t):
            model(torch.randn(2, 3, 32, 32))
        kept.append(sum(sizes))
    assert kept[1] < 0.5 * kept[0]


@on_devices
def test_everything_runs_on_the_device(device: str) -> None:
    for name in MODELS:
        model, inputs = built(name)
        reference = model(*inputs)
        model, inputs = model.to(device), tuple(moved(value, device) for value in inputs)
        assert_close([out.cpu() for out in tensors(model(*inputs))], reference, 1e-4)
    model, _ = built("autoencoder", device)
    latents = model.encode(moved(clip(), device))
    assert_close(fold_for_inference(model)(latents), model.decode(latents), 1e-4)


class TrainingStep(nn.Module):
    """The entity encoder's loss per sample, so that averaging over processes averages over the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.model, _ = built("entities")

    def forward(self, entities: Tensor, mask: Tensor) -> Tensor:
        return loss_of(self.model(entities, mask))


def global_batch() -> tuple[Tensor, Tensor]:
    entities = torch.randn(4, 30, 7, generator=torch.Generator().manual_seed(1))
    return entities, torch.arange(30) < torch.tensor([[12], [4], [1], [9]])


def data_parallel_worker(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), GLOO_SOCKET_IFNAME="lo")
    dist.init_process_group("gloo", rank=rank, world_size=2)
    # Both kinds: sets, which are packed differently in each process, and several modalities.
    step = DistributedDataParallel(TrainingStep())
    model = built("autoencoder")[0].train()
    parallel = DistributedDataParallel(model)
    # The second step raises where a parameter took no part in the first.
    for _ in range(2):
        step.zero_grad()
        step(*(tensor[2 * rank : 2 * rank + 2] for tensor in global_batch())).backward()
        model.zero_grad()
        loss_of(parallel({key: value[rank : rank + 1] for key, value in clip().items()})).backward()
    if rank == 0:
        grads = [p.grad for p in step.parameters()], [p.grad for p in model.parameters()]
        torch.save(grads, Path(folder) / "gradients.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_have_the_gradients_of_the_global_batch(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(data_parallel_worker, args=(port, str(tmp_path)), nprocs=2)
    entity_grads, autoencoder_grads = torch.load(tmp_path / "gradients.pt")
    step = TrainingStep()
    step(*global_batch()).backward()
    assert_same_gradients(entity_grads, [p.grad for p in step.parameters()], 1e-5)
    model = built("autoencoder")[0].train()
    loss_of(model(clip())).backward()
    # The losses are means over all elements, so their mean over equal parts is the loss of the whole.
    assert_same_gradients(autoencoder_grads, [p.grad for p in model.parameters()], 1e-5)

"""Perceiver IO core against its peers: `python -m benchmarks.core`, or one group alone with `--case a`.

Every line of a table is one implementation, timed in turns with the others of the table in one run
(`benchmarks.harness` says how). Ratios are theirs over ours: above 1, ours is faster or smaller. The share is what an
implementation's own operations (as counted by torch) would take at the measured matrix-product rate, over what it took.

Cases:
  a  StarCraft II entity encoder: batch 64, 512 entities x 256, 32 latents x 256, 3 self-attends, queries from entities;
     dense, and with realistic masks (60 of 512 on average, 5 to 200)
  b  video-audio-label autoencoder of the paper: whole clip (802,816 pixels, 1,920 audio patches, the label), the label
     alone, and a training step with 512 + 512 + 1 queries
  c  byte masked language model on 2,048 bytes, and ImageNet with Fourier features
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import peers
from benchmarks.harness import Job, Measurement, Outputs, Settings, compare, products, ratios
from perceiver_core.model import PerceiverIO

OURS = "perceiver_core"
UNFOLDED = f"{OURS}, unfolded"
IN_FP32 = f"{OURS}, in fp32"


def inference(function: Callable[[], Any], *, bf16: bool = False) -> Callable[[], Outputs]:
    """`function` without gradients, in bfloat16 autocast if asked."""

    def run() -> Outputs:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return function()

    return run


def training(module: nn.Module, function: Callable[[], Outputs], *, bf16: bool = False) -> Callable[[], Outputs]:
    """Forward and backward, from fixed gradients of all outputs; returns the outputs."""
    gradients: list[Tensor] = []

    def run() -> Outputs:
        module.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            outputs = function()
        if not gradients:
            gradients.extend(torch.randn_like(output) / output.numel() for output in outputs.values())
        torch.autograd.backward(list(outputs.values()), gradients)
        return {name: output.detach() for name, output in outputs.items()}

    return run


@dataclass(frozen=True, kw_only=True)
class Case:
    """One table.

    Attributes:
        title: what is computed.
        contenders: builders of the jobs by name; ours first.
        dtype: of the products, for the yardstick.
        compared: contenders with our weights, whose outputs are compared with ours.
    """

    title: str
    contenders: dict[str, Callable[[], Job]]
    dtype: torch.dtype = torch.float32
    compared: tuple[str, ...] = ("Hugging Face",)


# ---------------------------------------------------------------------------------------------- (a) entity encoder

BATCH, ENTITIES, CHANNELS, LATENTS, SELF_ATTENDS = 64, 512, 256, 32, 3


def realistic_mask() -> Tensor:
    """Valid slots [64, 512]: 60 on average, from 5 to 200, anywhere in the row."""
    torch.manual_seed(1)
    lengths = (5 + 195 * torch.distributions.Beta(0.9, 2.3).sample((BATCH,))).round().long()
    return torch.rand(BATCH, ENTITIES).argsort(1) < lengths[:, None]


def our_entity_encoder(heads: int) -> nn.Module:
    from perceiver_core.presets import entity_encoder

    torch.manual_seed(0)
    return entity_encoder(
        CHANNELS,
        num_latents=LATENTS,
        latent_channels=CHANNELS,
        num_self_attends=SELF_ATTENDS,
        num_heads=heads,
        output_channels=CHANNELS,
    )


def entity_job(*, who: str, heads: int, masked: bool, train: bool, bf16: bool) -> Job:
    sizes = {"channels": CHANNELS, "num_latents": LATENTS, "num_self_attends": SELF_ATTENDS, "num_heads": heads}
    torch.manual_seed(2)
    entities = torch.randn(BATCH, ENTITIES, CHANNELS)
    mask = realistic_mask() if masked else None
    if who == OURS:
        module = our_entity_encoder(heads)
        compute = lambda: module(entities, mask).per_entity  # noqa: E731
    elif who == "Hugging Face":
        module = peers.HuggingFaceEntityEncoder(**sizes)
        module.copy_from(our_entity_encoder(heads))
        compute = lambda: module(entities, mask)  # noqa: E731
    elif who == "perceiver-pytorch":
        module = peers.lucidrains_entity_encoder(**sizes)
        compute = lambda: module(entities, mask=mask, queries=entities)  # noqa: E731
    else:
        module = peers.transformer_entity_encoder(channels=CHANNELS, num_layers=3, num_heads=heads)
        padding = None if mask is None else ~mask
        compute = lambda: module(entities, src_key_padding_mask=padding)  # noqa: E731
    module.train(train)
    outputs = lambda: {"per entity": compute()}  # noqa: E731
    # What stands in masked slots differs, and is nobody's business: only the valid rows are compared.
    valid = slice(None) if mask is None else mask
    return Job(
        run=training(module, outputs, bf16=bf16) if train else inference(outputs, bf16=bf16),
        compared=lambda outputs: {"per entity": outputs["per entity"][valid]},
    )


def entity_cases() -> dict[str, Case]:
    cases = {}
    variants = [
        ("dense", 8, False, False, False),
        ("dense-train", 8, False, True, False),
        ("dense-2-heads", 2, False, False, False),
        ("dense-2-heads-train", 2, False, True, False),
        ("dense-bf16", 8, False, False, True),
        ("masked", 8, True, False, False),
        ("masked-train", 8, True, True, False),
    ]
    for name, heads, masked, train, bf16 in variants:
        mean = f", {realistic_mask().sum(1).float().mean():.0f} of 512 valid" if masked else ", all 512 valid"
        cases[f"a-{name}"] = Case(
            title=f"entity encoder, {heads} heads{mean}, {'forward+backward' if train else 'forward'}, "
            f"{'bf16 autocast' if bf16 else 'fp32'}",
            contenders={
                who: partial(entity_job, who=who, heads=heads, masked=masked, train=train, bf16=bf16)
                for who in (OURS, "Hugging Face", "perceiver-pytorch", "TransformerEncoder x 3")
            },
            dtype=torch.bfloat16 if bf16 else torch.float32,
        )
    return cases


# ------------------------------------------------------------------------------------------------- (b) autoencoder

CHUNKS, PIXELS, PATCHES = 128, 16 * 224 * 224, 1920


def clip() -> dict[str, Tensor]:
    """A smooth moving pattern and a chord, as raw values in [0, 1] and [-1, 1]."""
    t, y, x = torch.meshgrid(torch.arange(16), torch.arange(224), torch.arange(224), indexing="ij")
    waves = [torch.sin(0.03 * (i + 1) * x + 0.05 * y * i + 0.3 * t) for i in range(3)]
    seconds = torch.arange(30_720) / 48_000
    sound = sum(torch.sin(2 * math.pi * f * seconds) for f in (220.0, 277.2, 329.6)) / 3
    assert isinstance(sound, Tensor)
    return {
        "image": (0.5 + 0.5 * torch.stack(waves, 1))[None],
        "audio": sound[None, :, None],
        "label": torch.zeros(1, 700),
    }


def our_autoencoder(folder: str) -> PerceiverIO:
    from perceiver_core import pretrained

    return pretrained.load(folder).model


def reconstruct_job(*, folder: str, who: str, bf16: bool) -> Job:
    inputs = clip()
    if who == "Hugging Face":
        model = peers.load_hugging_face(folder, "PerceiverForMultimodalAutoencoding")
        points = {"image": torch.arange(PIXELS // CHUNKS), "audio": torch.arange(PATCHES // CHUNKS), "label": None}
        compute = lambda: dict(model(inputs=inputs, subsampled_output_points=points).logits)  # noqa: E731
        return Job(run=inference(compute, bf16=bf16), scale=CHUNKS)
    from perceiver_core.folding import fold_for_inference

    ours = our_autoencoder(folder)
    del inputs["label"]
    if who == UNFOLDED:
        positions = {"image": torch.arange(PIXELS // CHUNKS), "audio": torch.arange(PATCHES // CHUNKS), "label": None}
        latents = inference(lambda: {"latents": ours.encode(inputs)}, bf16=bf16)()["latents"]
        return Job(run=inference(lambda: ours.decode(latents, positions, chunk_size=1024), bf16=bf16), scale=CHUNKS)
    decode = fold_for_inference(ours, torch.bfloat16 if bf16 else torch.float32)
    return Job(run=inference(lambda: decode(ours.encode(inputs)), bf16=bf16))


def label_job(*, folder: str, what: str) -> Job:
    ours = our_autoencoder(folder)
    inputs = clip()
    del inputs["label"]
    if what == "encoder alone":
        return Job(run=inference(lambda: {"latents": ours.encode(inputs)}))
    return Job(run=inference(lambda: ours.decode(ours.encode(inputs), {"label": None})))


def autoencoder_step_job(*, folder: str, who: str, bf16: bool) -> Job:
    inputs = clip()
    torch.manual_seed(3)
    points = {"audio": torch.randperm(PATCHES)[:512], "image": torch.randperm(PIXELS)[:512], "label": None}
    if who == "Hugging Face":
        model = peers.load_hugging_face(folder, "PerceiverForMultimodalAutoencoding").train()
        # Attention dropout is on by default there, and no part of the published training.
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        compute = lambda: dict(model(inputs=inputs, subsampled_output_points=points).logits)  # noqa: E731
    else:
        model = our_autoencoder(folder).train()
        compute = lambda: model(inputs, positions=points, masked=("label",))  # noqa: E731
    return Job(run=training(model, compute, bf16=bf16))


def autoencoder_cases(folder: str) -> dict[str, Case]:
    cases = {}
    for name, bf16 in (("fp32", False), ("bf16", True)):
        contenders: dict[str, Callable[[], Job]] = {
            who: partial(reconstruct_job, folder=folder, who=who, bf16=bf16) for who in (OURS, "Hugging Face")
        }
        if bf16:
            contenders[IN_FP32] = partial(reconstruct_job, folder=folder, who=OURS, bf16=False)
        cases[f"b-reconstruct-{name}"] = Case(
            title=f"autoencoder, encode and decode a whole clip, {name}"
            f" (Hugging Face: 1 of {CHUNKS} chunks timed, times {CHUNKS})",
            contenders=contenders,
            dtype=torch.bfloat16 if bf16 else torch.float32,
        )
    cases["b-unfolded"] = Case(
        title=f"autoencoder, decode without folding, fp32 (1 of {CHUNKS} parts timed, times {CHUNKS})",
        contenders={
            who: partial(reconstruct_job, folder=folder, who=who, bf16=False) for who in (f"{OURS}, unfolded",)
        },
    )
    cases["b-label"] = Case(
        title="autoencoder, the label alone, fp32",
        contenders={what: partial(label_job, folder=folder, what=what) for what in ("label alone", "encoder alone")},
        compared=(),
    )
    for name, bf16 in (("fp32", False), ("bf16", True)):
        cases[f"b-train-{name}"] = Case(
            title=f"autoencoder, training step with 512 + 512 + 1 queries, {name}",
            contenders={
                who: partial(autoencoder_step_job, folder=folder, who=who, bf16=bf16) for who in (OURS, "Hugging Face")
            },
            dtype=torch.bfloat16 if bf16 else torch.float32,
        )
    return cases


# ------------------------------------------------------------------------------------- (c) language and ImageNet

PUBLISHED = {
    "autoencoder": (
        "PerceiverForMultimodalAutoencoding",
        {
            "num_latents": 784,
            "d_latents": 512,
            "d_model": 704,
            "num_blocks": 1,
            "num_self_attends_per_block": 8,
            "num_self_attention_heads": 8,
            "num_cross_attention_heads": 1,
            "num_labels": 700,
        },
    ),
    "mlm": ("PerceiverForMaskedLM", {"qk_channels": 256, "v_channels": 1280}),
    "imagenet": (
        "PerceiverForImageClassificationFourier",
        {
            "num_latents": 512,
            "d_latents": 1024,
            "d_model": 261,
            "num_blocks": 8,
            "num_self_attends_per_block": 6,
            "num_self_attention_heads": 8,
            "num_cross_attention_heads": 1,
            "image_size": 224,
            "num_labels": 1000,
        },
    ),
}


def published_job(*, folder: str, model_name: str, who: str, train: bool, bf16: bool) -> Job:
    torch.manual_seed(4)
    inputs = torch.randint(6, 262, (1, 2048)) if model_name == "mlm" else torch.randn(1, 3, 224, 224)
    if who == OURS:
        from perceiver_core import pretrained

        module: nn.Module = pretrained.load(folder)
        compute = lambda: {"logits": module(inputs).logits}  # noqa: E731
    elif who == "Hugging Face":
        module = peers.load_hugging_face(folder, PUBLISHED[model_name][0])
        compute = lambda: {"logits": module(inputs=inputs).logits}  # noqa: E731
    else:
        module = peers.LucidrainsImageClassifier()
        compute = lambda: {"logits": module(inputs)}  # noqa: E731
    module.train(train)
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    return Job(run=training(module, compute, bf16=bf16) if train else inference(compute, bf16=bf16))


def published_cases(folders: dict[str, str]) -> dict[str, Case]:
    cases = {}
    for model_name, title in (("mlm", "byte MLM, 2,048 tokens"), ("imagenet", "ImageNet Fourier, 50,176 pixels")):
        who = (OURS, "Hugging Face") if model_name == "mlm" else (OURS, "Hugging Face", "perceiver-pytorch")
        for suffix, train, bf16 in (("", False, False), ("-train", True, False), ("-bf16", False, True)):
            cases[f"c-{model_name}{suffix}"] = Case(
                title=f"{title}, {'forward+backward' if train else 'forward'}, {'bf16 autocast' if bf16 else 'fp32'}",
                contenders={
                    name: partial(
                        published_job,
                        folder=folders[model_name],
                        model_name=model_name,
                        who=name,
                        train=train,
                        bf16=bf16,
                    )
                    for name in who
                },
                dtype=torch.bfloat16 if bf16 else torch.float32,
            )
    return cases


# ---------------------------------------------------------------------------------------------------------- report


def difference(ours: Outputs, theirs: Outputs) -> float:
    """Largest difference over largest value of the outputs that both have; theirs may be the first rows of ours."""
    worst = 0.0
    for name in ours.keys() & theirs.keys():
        a, b = ours[name].flatten(), theirs[name].flatten()
        size = min(len(a), len(b))
        worst = max(worst, float((a[:size] - b[:size]).abs().max() / b[:size].abs().max()))
    return worst


def psnr(a: Tensor, b: Tensor, peak: float = 1.0) -> float:
    """Peak signal-to-noise ratio in dB of two signals of range `peak`."""
    return 10 * math.log10(peak**2 / float((a.double() - b.double()).square().mean()))


def report(case: Case, results: list[Measurement], rate: float) -> None:
    ours = results[0]
    print(f"\n{case.title}")
    print(f"  {'':28}{'median':>10}{'min':>9}{'max':>9}   {'time ratio (min..max)':24}{'peak MB':>8}{'ratio':>7}"
          f"{'GFLOP':>9}{'share':>7}{'max diff':>10}")  # fmt: skip
    for result in results:
        ratio, low, high = ratios(ours, result)
        compared = result.name in case.compared and result is not ours
        print(
            f"  {result.name:28}{result.median:9.3f}s{min(result.seconds):8.3f}s{max(result.seconds):8.3f}s   "
            f"{f'{ratio:.2f}x ({low:.2f}..{high:.2f})':24}{result.peak_bytes / 1e6:8.0f}"
            f"{result.peak_bytes / ours.peak_bytes:6.2f}x{result.operations / 1e9:9.1f}"
            f"{result.operations / rate / result.median:7.0%}"
            f"{f'{difference(ours.outputs, result.outputs):.1e}' if compared else '':>10}",
            flush=True,
        )


def report_precisions(*, fp32: Outputs, bf16: Outputs) -> None:
    """How far the bfloat16 reconstruction is from the float32 one, and both from the clip."""
    original = {"image": clip()["image"].movedim(2, -1), "audio": clip()["audio"]}
    for name, peak in (("image", 1.0), ("audio", 2.0)):
        exact, reduced, wanted = (outputs[name].flatten() for outputs in (fp32, bf16, original))
        between = psnr(reduced, exact, float(exact.max() - exact.min()))
        print(
            f"  {name}: PSNR against the clip {psnr(exact, wanted, peak):.3f} dB in fp32 and "
            f"{psnr(reduced, wanted, peak):.3f} dB in bf16; of the bf16 against the fp32 reconstruction, whose range "
            f"is the peak, {between:.1f} dB"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--case", default="", help="a case or a prefix of cases, e.g. a, b-train or a-masked; default: all"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="torch threads of every contender")
    parser.add_argument(
        "--clock",
        default="wall",
        choices=("wall", "cpu"),
        help="cpu: processor time of one thread, for a machine with other load; needs --threads 1",
    )
    parser.add_argument("--rounds", type=int, default=9, help="counted rounds of every contender")
    parser.add_argument("--seconds", type=float, default=40.0, help="stop a case after so long, with 3 rounds at least")
    parser.add_argument(
        "--float32-precision",
        default="highest",
        choices=("highest", "high", "medium"),
        help="torch.set_float32_matmul_precision of every contender (torch's default: highest)",
    )
    arguments = parser.parse_args()
    if arguments.clock == "cpu" and arguments.threads != 1:
        parser.error("--clock cpu adds the time of all threads up; it needs --threads 1")
    settings = Settings(
        threads=arguments.threads,
        cpu_clock=arguments.clock == "cpu",
        float32_precision=arguments.float32_precision,
        rounds=arguments.rounds,
        seconds=arguments.seconds,
    )
    allocator = {
        name: value for name, value in os.environ.items() if name.startswith("MALLOC_") or name == "LD_PRELOAD"
    }
    print(
        f"torch {torch.__version__}, {settings.threads} threads, {arguments.clock} clock, "
        f"float32 products {settings.float32_precision}, allocator {allocator or 'as the system has it'}; "
        f"at most {settings.rounds} rounds"
    )
    with tempfile.TemporaryDirectory() as root:
        folders = {name: os.path.join(root, name) for name in PUBLISHED}
        cases = {**entity_cases(), **autoencoder_cases(folders["autoencoder"]), **published_cases(folders)}
        chosen = {name: case for name, case in cases.items() if name.startswith(arguments.case)}
        if arguments.case in cases:
            chosen = {arguments.case: cases[arguments.case]}
        if not chosen:
            parser.error(f"--case {arguments.case!r} is neither a case nor a prefix of one: {', '.join(cases)}")
        for name, (class_name, config) in PUBLISHED.items():
            if any(folders[name] in str(job) for case in chosen.values() for job in case.contenders.values()):
                peers.save_hugging_face(folders[name], class_name, **config)
        for name, case in chosen.items():
            *results, yardstick = compare({**case.contenders, "rate": partial(products, case.dtype)}, settings)
            rate = yardstick.operations / min(yardstick.seconds)
            print(
                f"\n[{name}] matrix products at {rate / 1e9:.0f} GFLOP/s ({str(case.dtype).removeprefix('torch.')})",
                end="",
            )
            report(case, results, rate)
            by_name = {result.name: result.outputs for result in results}
            if IN_FP32 in by_name:
                report_precisions(fp32=by_name[IN_FP32], bf16=by_name[OURS])


if __name__ == "__main__":
    main()

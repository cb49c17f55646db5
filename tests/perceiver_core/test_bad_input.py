"""Bad arguments, configurations and checkpoints get an error that says what is wrong, before any compute."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file

from perceiver_core import (
    AttentionConfig,
    DecoderConfig,
    EncoderConfig,
    EntityEncoder,
    Perceiver,
    PerceiverDecoder,
    PerceiverEncoder,
    PerceiverIO,
    PerceiverIOConfig,
    outputs,
    presets,
    pretrained,
    queries,
)
from perceiver_core import inputs as adapters
from perceiver_core.config import config_class
from perceiver_core.position import FourierPosition
from tests.perceiver_core.huggingface import SMALL as HUGGING_FACE
from tests.perceiver_core.huggingface import save_random
from tests.perceiver_core.test_laws import SMALL, clip, small_autoencoder, small_entities, small_language_model

ENCODER = PerceiverEncoder(SMALL, input_channels=7)
DECODER = PerceiverDecoder(DecoderConfig(), query_channels=6, latent_channels=16)
UNITS = small_entities()
LANGUAGE = small_language_model()
AUTOENCODER = small_autoencoder()
FLOW = presets.optical_flow(image_size=(4, 4), encoder=SMALL)
IMAGE = presets.image_classifier_learned(image_size=(6, 6), num_classes=3, encoder=SMALL)
GRID = FourierPosition.Config(shape=(2, 2), num_bands=1)

x, tokens, mask = torch.randn, torch.zeros(2, 8, dtype=torch.long), torch.ones(2, 5, dtype=torch.bool)

CALLS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    # channels, rank, dtype
    (
        lambda: ENCODER(x(2, 5, 8)),
        ValueError,
        r"`inputs` .*\[B, M, C\] with C = 7, got C = 8: shape \[2, 5, 8\]",
    ),
    (lambda: ENCODER(x(5, 7)), ValueError, r"`inputs` .*got 2 axes: shape \[5, 7\]"),
    (lambda: ENCODER(torch.ones(2, 5, 7).long()), TypeError, r"`inputs` must be a floating tensor .*dtype torch.int64"),
    (lambda: ENCODER([[1.0]]), TypeError, r"`inputs` .*got list"),
    (lambda: DECODER(x(2, 3, 5), x(2, 4, 16)), ValueError, r"`queries` .*with B = 1 or 2, E = 6, got E = 5"),
    (lambda: DECODER(x(3, 3, 6), x(2, 4, 16)), ValueError, r"`queries` .*got B = 3"),
    (lambda: DECODER(x(2, 3, 6), x(2, 4, 15)), ValueError, r"`latents` .*with D = 16, got D = 15"),
    (lambda: UNITS(x(2, 5, 8)), ValueError, r"`entities` .*with C = 7, got C = 8"),
    (lambda: IMAGE(x(2, 4, 6, 6)), ValueError, r"`inputs` .*\[B, C, H, W\] with C = 3, got C = 4"),
    (lambda: FLOW(x(2, 3, 3, 4, 4)), ValueError, r"`inputs` .*with T = 2, C = 3 or 27, got T = 3"),
    # masks
    (lambda: ENCODER(x(2, 6, 7), mask), ValueError, r"`mask` must be .*\[B, M\] with B = 2, M = 6, got M = 5"),
    (lambda: ENCODER(x(2, 5, 7), mask.float()), TypeError, r"`mask` must be a bool tensor .*torch.float32"),
    (lambda: UNITS(x(3, 5, 7), mask), ValueError, r"`mask` .*with B = 3, M = 5, got B = 2"),
    (lambda: DECODER(x(1, 3, 6), x(2, 4, 16), mask), ValueError, r"`query_mask` .*with B = 2, M = 3, got M = 5"),
    (
        lambda: AUTOENCODER(clip(), {"sound": mask}),
        ValueError,
        r"`mask` names unknown 'sound'; known: 'audio'",
    ),
    (lambda: LANGUAGE(tokens, {"text": mask}), TypeError, r"`mask` by modality needs a multimodal input"),
    (lambda: AUTOENCODER(clip(), query_mask=mask), ValueError, r"`query_mask` is for models with one kind of query"),
    # sizes and positions
    (lambda: IMAGE(x(2, 3, 6, 7)), ValueError, r"trainable positions exist for the grid \(6, 6\) only, got .*\(6, 7\)"),
    (lambda: LANGUAGE(tokens.repeat(1, 3)), ValueError, r"`inputs` has 24 tokens, more than `max_length` = 20"),
    (lambda: LANGUAGE(tokens + 30), IndexError, r"`inputs` must hold indices from 0 to 29, got 30 to 30"),
    (lambda: LANGUAGE(tokens - 1), IndexError, r"`inputs` must hold indices from 0 to 29, got -1 to -1"),
    (lambda: LANGUAGE(tokens.float()), TypeError, r"`inputs` must be a integer tensor"),
    (
        lambda: LANGUAGE(tokens, positions=torch.tensor([20])),
        IndexError,
        r"`positions` must hold indices from 0 to 19, got 20 to 20",
    ),
    (lambda: LANGUAGE(tokens, positions=torch.tensor([0.5])), TypeError, r"`positions` must be a integer tensor"),
    (lambda: LANGUAGE(tokens, positions={"text": None}), TypeError, r"`positions` by name need queries by name"),
    (lambda: LANGUAGE(tokens, chunk_size=0), ValueError, r"`chunk_size` must be a positive integer, got 0"),
    (lambda: FLOW.decode(x(2, 6, 16)), ValueError, r"queries are made of the inputs: pass `inputs` to `decode`"),
    # modalities
    (lambda: AUTOENCODER({**clip(), "text": tokens}), ValueError, r"`inputs` names unknown 'text'; known: 'audio', "),
    (lambda: AUTOENCODER(clip(), positions={"text": None}), ValueError, r"`positions` names unknown 'text'"),
    (lambda: AUTOENCODER(clip(), positions={}), ValueError, r"`positions` asks for nothing; known names: audio"),
    (lambda: AUTOENCODER(clip(), positions=tokens), TypeError, r"`positions` must map names \(audio, image, label\)"),
    (
        lambda: AUTOENCODER(clip(), positions={"audio": torch.tensor([4])}),
        IndexError,
        r"modality 'audio': `positions` must hold indices from 0 to 3, got 4 to 4",
    ),
    (lambda: AUTOENCODER(clip(), masked=("text",)), ValueError, r"`masked` names unknown 'text'"),
    (lambda: AUTOENCODER(x(2, 3)), TypeError, r"`inputs` must map some of the modalities \(audio, image, label\)"),
    (lambda: AUTOENCODER({}), TypeError, r"`inputs` must map some of the modalities"),
    (
        lambda: AUTOENCODER({**clip(), "audio": x(2, 65)}),
        ValueError,
        r"modality 'audio': `inputs` has a grid of \(65,\), which must be a multiple of the patch \(16,\)",
    ),
    (
        lambda: AUTOENCODER({**clip(), "label": torch.tensor([5, 0])}),
        IndexError,
        r"modality 'label': `inputs` must hold indices from 0 to 4, got 0 to 5",
    ),
    (lambda: AUTOENCODER({**clip(), "audio": x(3, 64)}), ValueError, r"`inputs` must have one batch size, got .*3"),
    (lambda: LANGUAGE(tokens, masked=("text",)), ValueError, r"`masked` names modalities to hide"),
    # configurations
    (
        lambda: PerceiverEncoder(
            EncoderConfig(
                num_latents=2, latent_channels=16, num_self_attends=1, cross_attention=AttentionConfig(num_heads=2)
            ),
            input_channels=7,
        ),
        ValueError,
        r"`qk_channels` = 7 must be a multiple of `num_heads` = 2",
    ),
    (
        lambda: EncoderConfig(num_latents=2, latent_channels=18, num_self_attends=1),
        ValueError,
        r"`qk_channels` = 18 must be a multiple of `num_heads` = 8",
    ),
    (
        lambda: EncoderConfig(num_latents=0, latent_channels=16, num_self_attends=1),
        ValueError,
        r"`num_latents` must be a positive integer, got 0",
    ),
    (
        lambda: EncoderConfig(num_latents=2, latent_channels=16, num_self_attends=1, num_cross_attends=2),
        ValueError,
        r"`num_cross_attends` = 2 exceeds `num_blocks` = 1",
    ),
    (lambda: AttentionConfig(qk_channels="x"), ValueError, r"`qk_channels` must be a width, 'q' or 'kv', got 'x'"),  # type: ignore[arg-type]
    (
        lambda: FourierPosition.Config(shape=(2, 2), num_bands=1, resolution=(2,)),
        ValueError,
        r"`resolution` \(2,\) must have one entry per axis of `shape` \(2, 2\)",
    ),
    (
        lambda: adapters.MultimodalInput.Config(
            modalities={"units": adapters.EntityInput.Config(features=3)}, mask_probabilities={"sound": 0.5}
        ),
        ValueError,
        r"`mask_probabilities` names unknown 'sound'; known: 'units'",
    ),
    (
        lambda: PerceiverIO(
            PerceiverIOConfig(
                inputs=adapters.EntityInput.Config(features=3),
                encoder=SMALL,
                queries=queries.PositionQueries.Config(position=GRID),
                decoder=DecoderConfig(),
                outputs=outputs.TiedEmbeddingOutput.Config(),
            )
        ),
        ValueError,
        r"tied-embedding logits need a TokenInput, got EntityInput",
    ),
    (
        lambda: presets.AudioModality(num_samples=100),
        ValueError,
        r"`num_samples` = 100 must be a multiple of `samples_per_patch` = 16",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), CALLS, ids=[message[:60] for _, _, message in CALLS])
def test_bad_arguments(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def damage(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


DAMAGES: list[tuple[Callable[[dict[str, torch.Tensor]], Any], str]] = [
    (lambda w: w.pop("encoder.latents"), r"missing `encoder.latents` \[5, 16\]"),
    (lambda w: w.update(extra=torch.zeros(2)), r"unexpected `extra` \[2\]"),
    (
        lambda w: w.update({"encoder.latents": torch.zeros(4, 16)}),
        r"`encoder.latents` has shape \[4, 16\], expected \[5, 16\]",
    ),
    (
        lambda w: w.update({"encoder.latents": torch.zeros(1, 5, 16)}),
        r"`encoder.latents` has shape \[1, 5, 16\], expected \[5, 16\]",
    ),
]


@pytest.mark.parametrize(("change", "message"), DAMAGES, ids=["missing", "unexpected", "size", "rank"])
def test_weights_that_do_not_fit(change: Callable[[Any], Any], message: str, tmp_path: Path) -> None:
    small_entities().save_pretrained(tmp_path)
    damage(tmp_path, change)
    with pytest.raises(ValueError, match=rf"{re.escape(str(tmp_path))}/model.safetensors: .*{message}"):
        EntityEncoder.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_damaged_files(name: str, tmp_path: Path) -> None:
    small_entities().save_pretrained(tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=rf"{re.escape(str(tmp_path))}/{name}: not a"):
        EntityEncoder.from_pretrained(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"has no {name}"):
        EntityEncoder.from_pretrained(tmp_path)


def test_foreign_configurations(tmp_path: Path) -> None:
    small_entities().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"config.json: holds a EntityEncoder, not a Perceiver"):
        Perceiver.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"config.json: `model_type` None .* is none of PerceiverForMaskedLM"):
        pretrained.load(tmp_path)
    data = json.loads((tmp_path / "config.json").read_text())
    data["config"]["encoder"]["num_layers"] = 3
    (tmp_path / "config.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match=r"config.json: EncoderConfig: .*num_layers"):
        EntityEncoder.from_pretrained(tmp_path)
    data["config"] = None
    (tmp_path / "config.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match=r"config.json: no configuration of a EntityEncoder"):
        EntityEncoder.from_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        EntityEncoder.from_pretrained(tmp_path / "nothing")


def test_names_that_nobody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> str:
        raise LocalEntryNotFoundError("not in the cache")

    monkeypatch.setattr("perceiver_core.hub.hf_hub_download", offline)
    message = r"runs/typo is no local folder, and the hub \(without a network: its cache\) has no config.json"
    for load in (PerceiverIO.from_pretrained, pretrained.load):
        with pytest.raises(FileNotFoundError, match=message):
            load("runs/typo")


def test_hugging_face_checkpoints_that_do_not_fit(tmp_path: Path) -> None:
    save_random(HUGGING_FACE[0], tmp_path, seed=0)
    with pytest.raises(ValueError, match=r"not a configuration of perceiver_core; use perceiver_core.pretrained.load"):
        PerceiverIO.from_pretrained(tmp_path)
    damage(tmp_path, lambda w: w.update({"perceiver.encoder.self_attends.1.mlp.dense1.bias": torch.zeros(3)}))
    damage(tmp_path, lambda w: w.pop("embedding_decoder.bias"))
    damage(tmp_path, lambda w: w.update(extra=torch.zeros(2)))
    with pytest.raises(ValueError) as caught:
        pretrained.load(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/model.safetensors: the weights do not fit")
    assert "missing `embedding_decoder.bias` [262]" in message and "unexpected `extra` [2]" in message
    assert "`perceiver.encoder.self_attends.1.mlp.dense1.bias` has shape [3], expected [32]" in message


class Exploit:
    """Pickles to a call, as a malicious checkpoint would."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("exploited"),))


def test_pickles_run_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_random(HUGGING_FACE[0], tmp_path, seed=0)
    (tmp_path / "model.safetensors").unlink()
    monkeypatch.chdir(tmp_path)
    torch.save({"embedding_decoder.bias": Exploit()}, "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model.bin: not a file of plain weights"):
        pretrained.load(tmp_path)
    assert not Path("exploited").exists()
    Path("pytorch_model.bin").write_bytes(b"\x00" * 100)
    with pytest.raises(ValueError, match=r"pytorch_model.bin: not a file of plain weights"):
        pretrained.load(tmp_path)


def test_pretrained_models_check_their_call(tmp_path: Path) -> None:
    case = HUGGING_FACE[1]
    save_random(case, tmp_path, seed=0)
    model = pretrained.load(tmp_path)
    inputs = case.arguments()["inputs"]
    with pytest.raises(ValueError, match="`subsampled_output_points` is for multimodal models"):
        model(inputs, subsampled_output_points={"text": None})
    with pytest.raises(ValueError, match=r"`mask` .*with B = 3, M = 30, got M = 29"):
        model(inputs, attention_mask=torch.ones(3, 29))


class TableOnMeta(queries.QueryGenerator):
    """Makes its table on whatever device the model is built on."""

    @config_class
    class Config:
        points: int = 3

        def build(self, inputs: Any = None) -> TableOnMeta:
            return TableOnMeta(self)

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config, self.channels = config, 4
        self.register_buffer("table", torch.ones(config.points, 4), persistent=False)

    def count(self, tokens: Any = None) -> int:
        return int(self.config.points)

    def forward(self, positions: Any = None, tokens: Any = None) -> torch.Tensor:
        return self.table[None]


def test_a_table_without_values_is_named_when_a_model_is_loaded(tmp_path: Path) -> None:
    config = PerceiverIOConfig(
        inputs=adapters.EntityInput.Config(features=2, projection_channels=4),
        encoder=EncoderConfig(num_latents=2, latent_channels=8, num_self_attends=1),
        queries=TableOnMeta.Config(),
        decoder=DecoderConfig(attention=AttentionConfig(num_heads=1, query_residual=False)),
        outputs=outputs.ProjectionOutput.Config(channels=1),
    )
    PerceiverIO(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"\.table have no values.* make tables that are not saved on the CPU"):
        PerceiverIO.from_pretrained(tmp_path)

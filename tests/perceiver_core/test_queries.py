"""Query generators give the vectors of the asked positions, and output adapters shape what is decoded."""

from __future__ import annotations

import pytest
import torch

from perceiver_core import outputs, queries
from perceiver_core.inputs import EntityInput, TokenInput
from perceiver_core.position import FourierPosition, TrainablePosition

GRID = FourierPosition.Config(shape=(3, 4), num_bands=2)
LEARNED = TrainablePosition.Config(shape=(5,), channels=6)
ENTITIES = EntityInput.Config(features=7).build()


@pytest.mark.parametrize("position", [GRID, LEARNED], ids=["fourier", "trainable"])
def test_position_queries(position: FourierPosition.Config | TrainablePosition.Config) -> None:
    generator = queries.PositionQueries.Config(position=position).build()
    whole = generator()
    assert whole.shape == (1, generator.count(), generator.channels)
    torch.testing.assert_close(generator(torch.tensor([4, 0, 4])), whole[:, [4, 0, 4]])
    per_sample = generator(torch.tensor([[4, 0], [1, 1]]))
    torch.testing.assert_close(per_sample, whole[0][torch.tensor([[4, 0], [1, 1]])])


def test_input_queries_are_the_tokens() -> None:
    generator = queries.InputQueries.Config().build(ENTITIES)
    tokens = torch.randn(2, 5, 7)
    assert generator.uses_inputs and generator.channels == 7 and generator.count(tokens) == 5
    torch.testing.assert_close(generator(None, tokens), tokens)
    torch.testing.assert_close(generator(torch.tensor([3, 1]), tokens), tokens[:, [3, 1]])
    torch.testing.assert_close(generator(torch.tensor([[3, 1], [0, 2]]), tokens)[1], tokens[1, [0, 2]])


def test_task_queries() -> None:
    generator = queries.TaskQueries.Config(tasks=("win", "build_order"), channels=6).build()
    assert generator().shape == (1, 2, 6)
    torch.testing.assert_close(generator({"build_order": None})[0, 0], generator.table[1])
    assert generator({"win": torch.tensor([[0], [0], [0]])}).shape == (3, 1, 6)


def test_multimodal_queries_pad_sort_and_omit() -> None:
    config = queries.MultimodalQueries.Config(
        modalities={
            "units": queries.InputQueries.Config(),
            "image": queries.PositionQueries.Config(position=GRID),
            "label": queries.PositionQueries.Config(position=LEARNED),
        },
        min_padding=3,
    )
    generator = config.build(ENTITIES)
    tokens = torch.randn(2, 4, 7)
    assert generator.channels == 10 + 3 and generator.uses_inputs and generator.count(tokens) == 12 + 5 + 4
    asked = {"units": torch.tensor([2]), "image": torch.tensor([5, 1, 7])}
    rows = generator(asked, tokens)
    assert rows.shape == (2, 4, 13)
    torch.testing.assert_close(
        rows[0, 0], torch.cat([generator.generators["image"]()[0, 5], generator.padding["image"]])
    )
    torch.testing.assert_close(rows[1, 3], torch.cat([tokens[1, 2], generator.padding["units"]]))
    assert generator({"label": None}).shape == (1, 5, 13)


def test_multi_task_model_answers_the_asked_tasks() -> None:
    """One learned query per task, with a head of its own size."""
    from perceiver_core import DecoderConfig, EncoderConfig, PerceiverIO, PerceiverIOConfig

    model = PerceiverIO(
        PerceiverIOConfig(
            inputs=EntityInput.Config(features=7),
            encoder=EncoderConfig(num_latents=3, latent_channels=16, num_self_attends=1),
            queries=queries.TaskQueries.Config(tasks=("win", "build_order"), channels=6),
            decoder=DecoderConfig(),
            outputs=outputs.MultimodalOutput.Config(
                modalities={
                    "win": outputs.ClassificationOutput.Config(num_classes=2),
                    "build_order": outputs.ClassificationOutput.Config(num_classes=9),
                }
            ),
        )
    )
    units = torch.randn(2, 5, 7)
    both = model(units)
    assert both["win"].shape == (2, 2) and both["build_order"].shape == (2, 9)
    only = model(units, positions={"win": None})
    assert set(only) == {"win"}
    torch.testing.assert_close(only["win"], both["win"])


def test_audio_samples_and_video_patches() -> None:
    audio = outputs.AudioPatchOutput.Config(samples_per_patch=4).build(6, ENTITIES)
    rows = torch.randn(2, 5, 6)
    patches = audio(rows)
    torch.testing.assert_close(audio.assemble(patches, whole=True)[:, 8:12], audio.projection(rows[:, 2]))
    video = outputs.VideoPatchOutput.Config(shape=(2, 4, 6), patch=(1, 2, 3)).build(6, ENTITIES)
    rows = torch.randn(2, 2 * 2 * 2, 6)
    patches = video(rows)
    assert patches.shape == (2, 8, 18)
    clip = video.assemble(patches, whole=True)
    assert clip.shape == (2, 2, 3, 4, 6)
    torch.testing.assert_close(clip[0, 1, :, 2:, 3:], patches[0, 7].view(2, 3, 3).permute(2, 0, 1))
    assert video.assemble(patches[:, :3], whole=False).shape == (2, 3, 18)


def test_flow_is_scaled_and_shaped() -> None:
    flow = outputs.FlowOutput.Config(shape=(2, 3)).build(2, ENTITIES)
    rows = torch.randn(1, 6, 2)
    torch.testing.assert_close(flow.assemble(flow(rows), whole=True)[0, 1, 0], rows[0, 3] / 100)


def test_tied_embedding_follows_the_input_embedding() -> None:
    tokens = TokenInput.Config(vocabulary=9, max_length=3, channels=6).build()
    head = outputs.TiedEmbeddingOutput.Config().build(6, tokens)
    rows = torch.randn(2, 3, 6)
    torch.testing.assert_close(head(rows), rows @ tokens.embedding.weight.T)
    assert [name for name, _ in head.named_parameters()] == ["bias"], "the embedding belongs to the input adapter"

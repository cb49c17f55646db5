"""Input adapters: what becomes of the raw values, and where it goes in a token."""

from __future__ import annotations

import pytest
import torch

from perceiver_core import inputs as adapters
from perceiver_core.position import FourierPosition, TrainablePosition


def fourier(*shape: int) -> FourierPosition.Config:
    return FourierPosition.Config(shape=shape, num_bands=2)


def test_pixels_and_positions() -> None:
    adapter = adapters.ImageInput.Config(position=fourier(3, 4)).build()
    images = torch.randn(2, 3, 3, 4)
    tokens = adapter(images)
    assert tokens.shape == (2, 12, adapter.channels) and adapter.channels == 3 + 10 and adapter.length == 12
    torch.testing.assert_close(tokens[1, 4 * 2 + 1, :3], images[1, :, 2, 1])
    torch.testing.assert_close(tokens[0, :, 3:], adapter.position())


def test_image_patches_with_projection() -> None:
    adapter = adapters.ImageInput.Config(
        position=fourier(2, 3), patch=(2, 3), channels=1, projection_channels=5
    ).build()
    images = torch.randn(2, 1, 4, 9)
    tokens = adapter(images)
    assert tokens.shape == (2, 6, 5 + 10)
    patch = images[1, 0, 2:4, 3:6].flatten()
    torch.testing.assert_close(tokens[1, 1 * 3 + 1, :5], adapter.projection(patch))


def test_projection_is_a_1x1_convolution() -> None:
    position = TrainablePosition.Config(shape=(4, 4), channels=6, projected_channels=7)
    adapter = adapters.ImageInput.Config(position=position, projection_channels=5).build()
    images = torch.randn(2, 3, 4, 4)
    weight, bias = adapter.projection.weight[..., None, None], adapter.projection.bias
    expected = torch.nn.functional.conv2d(images, weight, bias).flatten(2).transpose(1, 2)
    torch.testing.assert_close(adapter(images)[..., :5], expected)


def test_video_patches_are_time_row_column_colour() -> None:
    adapter = adapters.VideoInput.Config(position=fourier(2, 2, 3), patch=(2, 2, 2)).build()
    video = torch.randn(1, 4, 3, 4, 6)
    token = adapter(video)[0, (1 * 2 + 0) * 3 + 2, : 8 * 3]
    expected = [video[0, 2 + t, c, y, 4 + x] for t in range(2) for y in range(2) for x in range(2) for c in range(3)]
    torch.testing.assert_close(token, torch.stack(expected))


def test_patches_merge_back() -> None:
    video = torch.randn(2, 4, 3, 6, 8)
    patches = adapters.split_patches(video.movedim(2, -1), (2, 3, 4)).flatten(1, 3)
    torch.testing.assert_close(adapters.merge_patches(patches, (4, 6, 8), (2, 3, 4)), video, rtol=0, atol=0)


@pytest.mark.parametrize(("padding", "size", "grid"), [("same", 224, 56), ("symmetric", 224, 55), ("same", 30, 8)])
def test_convolutional_stem_sizes(padding: str, size: int, grid: int) -> None:
    position = fourier(grid, grid)
    adapter = adapters.ConvStemInput.Config(position=position, features=4, padding=padding).build().eval()  # type: ignore[arg-type]
    assert adapter(torch.randn(1, 3, size, size)).shape == (1, grid * grid, 4 + 10)


def test_convolutional_stem_is_padded_at_the_end() -> None:
    """`same` in the reference's framework: 2 before and 3 behind for the convolution, 0 and 1 for the maximum."""
    adapter = adapters.ConvStemInput.Config(position=fourier(8, 8), features=4).build().eval()
    images = torch.randn(2, 3, 32, 32)
    x = torch.nn.functional.conv2d(torch.nn.functional.pad(images, (2, 3, 2, 3)), adapter.conv.weight, stride=2)
    x = adapter.norm(x).relu()
    x = torch.nn.functional.max_pool2d(torch.nn.functional.pad(x, (0, 1, 0, 1)), 3, 2)
    torch.testing.assert_close(adapter(images)[..., :4], x.flatten(2).transpose(1, 2))


def test_audio_patches() -> None:
    adapter = adapters.AudioInput.Config(position=fourier(5), samples_per_patch=4).build()
    sound = torch.randn(2, 20)
    tokens = adapter(sound)
    torch.testing.assert_close(tokens[1, 3, :4], sound[1, 12:16])
    torch.testing.assert_close(adapter(sound[..., None]), tokens)


def test_tokens_add_positions() -> None:
    adapter = adapters.TokenInput.Config(vocabulary=10, max_length=6, channels=4).build()
    tokens = adapter(torch.tensor([[3, 3, 7]], dtype=torch.int32))
    torch.testing.assert_close(tokens[0, 1], adapter.embedding.weight[3] + adapter.position[1])


def test_labels() -> None:
    adapter = adapters.LabelInput.Config(num_classes=4).build()
    assert adapter(torch.tensor([2, 0])).tolist() == [[[0, 0, 1, 0]], [[1, 0, 0, 0]]]
    probabilities = torch.rand(2, 4)
    torch.testing.assert_close(adapter(probabilities)[:, 0], probabilities)


def test_flow_neighbourhoods() -> None:
    """Neighbours row by row, colours fastest, frame after frame, zero beyond the border."""
    adapter = adapters.FlowInput.Config(position=fourier(4, 5)).build()
    frames = torch.randn(1, 2, 3, 4, 5)
    around = adapters.pixel_neighbourhoods(frames)
    padded = torch.nn.functional.pad(frames, (1, 1, 1, 1))
    expected = [padded[0, 1, c, 3 + dy, 0 + dx] for dy in range(3) for dx in range(3) for c in range(3)]
    torch.testing.assert_close(around[0, 1, :, 3, 0], torch.stack(expected))
    tokens = adapter(frames)
    torch.testing.assert_close(adapter(around), tokens)
    both = torch.cat([around[0, 0, :, 3, 0], around[0, 1, :, 3, 0]])
    torch.testing.assert_close(tokens[0, 15, :64], adapter.projection(both))


def multimodal(**probabilities: float) -> adapters.MultimodalInput:
    config = adapters.MultimodalInput.Config(
        modalities={
            "sound": adapters.AudioInput.Config(position=fourier(5), samples_per_patch=4),
            "label": adapters.LabelInput.Config(num_classes=12),
            "units": adapters.EntityInput.Config(features=3),
        },
        min_padding=2,
        mask_probabilities=probabilities,
    )
    return config.build()


def clip() -> dict[str, torch.Tensor]:
    return {"sound": torch.randn(2, 20), "label": torch.tensor([1, 2]), "units": torch.randn(2, 4, 3)}


def test_multimodal_pads_and_sorts() -> None:
    adapter = multimodal()
    inputs = clip()
    tokens = adapter(inputs)
    assert adapter.channels == 12 + 2 and tokens.shape == (2, 1 + 5 + 4, 14) and adapter.length is None
    torch.testing.assert_close(tokens[:, 0, :12], adapter.adapters["label"](inputs["label"])[:, 0])
    torch.testing.assert_close(tokens[:, 1:6, :9], adapter.adapters["sound"](inputs["sound"]))
    torch.testing.assert_close(tokens[1, 7, 3:], adapter.padding["units"])


def test_modalities_are_hidden_by_request_or_absence() -> None:
    adapter = multimodal(label=0.5, sound=1.0).eval()
    inputs = clip()
    tokens = adapter(inputs)
    hidden = adapter(inputs, masked=("label",))
    torch.testing.assert_close(hidden[:, 0], adapter.mask_tokens["label"].expand(2, -1))
    torch.testing.assert_close(hidden[:, 1:], tokens[:, 1:])
    absent = adapter({name: value for name, value in inputs.items() if name != "label"})
    torch.testing.assert_close(absent, hidden)
    some = torch.tensor([[True, False, False, False, True]] * 2)
    partly = adapter(inputs, masked={"sound": some})
    torch.testing.assert_close(partly[:, 1], adapter.mask_tokens["sound"].expand(2, -1))
    torch.testing.assert_close(partly[:, 2:5], tokens[:, 2:5])


def test_training_hides_at_random() -> None:
    torch.manual_seed(0)
    adapter = multimodal(label=0.25, sound=0.0).train()
    inputs = {"sound": torch.randn(4000, 20), "label": torch.randint(12, (4000,)), "units": torch.randn(4000, 1, 3)}
    tokens = adapter(inputs)
    share = (tokens[:, 0] == adapter.mask_tokens["label"]).all(-1).float().mean()
    assert abs(float(share) - 0.25) < 4 * (0.25 * 0.75 / 4000) ** 0.5
    assert not (tokens[:, 1:6] == adapter.mask_tokens["sound"]).all(-1).any()
    tokens.sum().backward()
    assert all(p.grad is not None for p in adapter.parameters()), "distributed training needs every gradient"


def test_n_grams_are_added_and_look_back_alone() -> None:
    config = adapters.TokenInput.Config(vocabulary=10, max_length=8, channels=4, n_grams=(2, 3), buckets=1000)
    adapter = config.build()
    plain = adapters.TokenInput.Config(vocabulary=10, max_length=8, channels=4).build()
    plain.load_state_dict({name: value for name, value in adapter.state_dict().items() if "n_grams" not in name})
    tokens = torch.tensor([[1, 2, 3, 1, 2, 3, 9, 9]])
    torch.testing.assert_close(adapter(tokens), plain(tokens), rtol=0, atol=0)  # their table begins at zero
    assert adapter.n_grams is not None
    torch.nn.init.normal_(adapter.n_grams.weight)
    added = (adapter(tokens) - plain(tokens))[0]
    torch.testing.assert_close(added[2], added[5])  # 123 and 123, whatever came before
    assert not torch.allclose(added[1], added[4])  # 12 at the beginning, and 312
    other = tokens.clone()
    other[0, 5:] = 7
    torch.testing.assert_close((adapter(other) - plain(other))[0, :5], added[:5])
    rows = adapters.n_gram_rows(torch.arange(2000)[None] % 7, 2, 1000)
    assert rows.min() >= 0 and rows.max() < 1000 and len(set(rows[0, 1:].tolist())) == 7
    # Checkpoints depend on the numbers: they are pinned by the same arithmetic on Python's integers.
    expected = [
        ((2 * 1_000_003 + last + 2) * 1_000_003 + before + 2) % 2_147_483_629 for before, last in ((-1, 5), (5, 6))
    ]
    assert adapters.n_gram_rows(torch.tensor([[5, 6]]), 2, 2**31).tolist() == [expected]
    with pytest.raises(ValueError, match=r"`n_grams\[1\]`"):
        adapters.TokenInput.Config(vocabulary=10, max_length=8, channels=4, n_grams=(2, 0))

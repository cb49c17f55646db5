"""Our models give the logits of Hugging Face transformers' classes, from the checkpoints that these write."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from perceiver_core import pretrained
from tests.perceiver_core.huggingface import FULL, SMALL, Case, save_random, worst_ratio

TOLERANCE = 1e-5


def check(case: Case, folder: Path) -> list[float]:
    theirs = save_random(case, folder, seed=1)
    ours = pretrained.load(folder)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    ratios = []
    with torch.inference_mode():
        arguments = case.arguments()
        plain = theirs(**arguments).logits
        ratios.append(worst_ratio(ours(**arguments).logits, plain))
        assert worst_ratio(theirs(**case.arguments()).logits, plain) > 1e-3, "the logits must depend on the inputs"
        if case.mask_length is not None:
            masked = case.masked(arguments)
            expected = theirs(**masked).logits
            ratios.append(worst_ratio(ours(**masked).logits, expected))
            assert worst_ratio(expected, plain) > 1e-3, "the logits must depend on the mask"
    return ratios


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_reduced_size(case: Case, tmp_path: Path) -> None:
    ratios = check(case, tmp_path)
    assert len(ratios) == 2 and max(ratios) <= TOLERANCE


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("case", FULL, ids=lambda case: case.name)
def test_full_published_size(case: Case, tmp_path: Path) -> None:
    ratios = check(case, tmp_path)
    print(f"\n{case.name}: max |difference| / max |logit| = {', '.join(f'{ratio:.1e}' for ratio in ratios)}")
    assert max(ratios) <= TOLERANCE


def test_modalities_beyond_transformers(tmp_path: Path) -> None:
    """Subsets of modalities, whole modalities, a missing label input and chunks, none of which transformers takes."""
    case = SMALL[-1]
    save_random(case, tmp_path, seed=1)
    ours = pretrained.load(tmp_path)
    arguments = case.arguments()
    points = arguments["subsampled_output_points"]
    with torch.inference_mode():
        full = ours(**arguments).logits
        del arguments["inputs"]["label"]
        label_only = ours(arguments["inputs"], subsampled_output_points={"label": None}).logits
        assert set(label_only) == {"label"}
        torch.testing.assert_close(label_only["label"], full["label"])
        image_only = ours(arguments["inputs"], subsampled_output_points={"image": points["image"]}).logits
        torch.testing.assert_close(image_only["image"], full["image"])
        whole = ours(arguments["inputs"], chunk_size=100).logits
    assert whole["image"].shape == (2, 2 * 16 * 16, 3) and whole["audio"].shape == (2, 128)
    torch.testing.assert_close(whole["image"][:, points["image"]], full["image"])
    torch.testing.assert_close(whole["audio"].unflatten(1, (-1, 16))[:, points["audio"]].flatten(1), full["audio"])


def test_fully_masked_sample_leaks_nothing(tmp_path: Path) -> None:
    """Where every input is masked, transformers averages over them; ours ignore them."""
    case = SMALL[1]
    save_random(case, tmp_path, seed=1)
    ours = pretrained.load(tmp_path)
    first, second = case.arguments()["inputs"], case.arguments()["inputs"]
    mask = torch.zeros(3, 30, dtype=torch.long)
    with torch.inference_mode():
        torch.testing.assert_close(ours(first, mask).logits, ours(second, mask).logits, rtol=0, atol=0)


@pytest.mark.parametrize("storage", ["shards", "pickle"])
def test_other_storage(storage: str, tmp_path: Path) -> None:
    """Sharded weights, and plain pickled ones, load as well."""
    case = SMALL[0]
    theirs = save_random(case, tmp_path / "one", seed=1)
    other = tmp_path / "other"
    if storage == "shards":
        theirs.save_pretrained(other, max_shard_size="50KB")
        assert len(list(other.glob("*.safetensors"))) > 1
    else:
        other.mkdir()
        theirs.config.save_pretrained(other)
        config = (tmp_path / "one" / "config.json").read_text()
        (other / "config.json").write_text(config)
        torch.save(theirs.state_dict(), other / "pytorch_model.bin")
    arguments = case.arguments()
    with torch.inference_mode():
        assert worst_ratio(pretrained.load(other)(**arguments).logits, theirs(**arguments).logits) <= TOLERANCE

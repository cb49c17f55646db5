"""The README's code is the code that runs here."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import torch

from perceiver_core import presets

ROOT = Path(__file__).parents[2]


def test_own_data_example_runs() -> None:
    names = runpy.run_path(str(ROOT / "examples" / "own_data.py"))
    assert names["latents"].shape == (4, 32, 128) and names["forecast"].shape == (4, 24, 3)
    torch.testing.assert_close(names["evening"], names["forecast"][:, 18:], rtol=1e-4, atol=1e-5)


def test_readme_shows_what_the_code_says() -> None:
    """Where the README quotes the example or the presets' parameter counts, it quotes them right."""
    readme = (ROOT / "README.md").read_text()
    for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL):
        if "features=12, projection_channels=64" in block:
            example = (ROOT / "examples" / "own_data.py").read_text()
            assert block.strip() == example.split('"""')[2].strip()
    counts = dict(re.findall(r"^\| `(\w+)` \| .* \| ([\d,]+) \|$", presets.__doc__ or "", re.MULTILINE))
    quoted = dict(re.findall(r"^\| `(\w+)` \|.*\| ([\d,]+) \|$", readme, re.MULTILINE))
    assert all(quoted[name] == counts[name] for name in set(quoted) & set(counts))

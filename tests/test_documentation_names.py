"""Files and modules that README and docs name are there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = "perceiver_core|perceiver_agents|envs|agents|multimodal|examples|benchmarks|tests"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _files(text: str) -> Iterator[str]:
    """Paths from the repository's root, with braces spelled out: `a/{b,c}.py`."""
    for found in re.findall(rf"(?<![\w./-])((?:{PACKAGES})/[\w./{{}},*-]*)(?![<\w])", text):
        name = found.rstrip(".,")
        choices = re.search(r"\{([^}]*)\}", name)
        for choice in choices[1].split(",") if choices else [""]:
            yield name.replace(choices[0], choice) if choices else name


def test_named_files_are_there() -> None:
    missing = [
        f"{page.relative_to(ROOT)}: {name}"
        for page in PAGES
        for name in _files(page.read_text(encoding="utf-8"))
        if "<" not in name and not list(ROOT.glob(name.rstrip("/*") or "."))
    ]
    assert not missing, "\n".join(missing)


def test_named_modules_are_there() -> None:
    missing = []
    for page in PAGES:
        for name in re.findall(
            rf"(?<![\w./-])((?:{PACKAGES})(?:\.(?!md|py\b)\w+)+)(?![\w/])", page.read_text(encoding="utf-8")
        ):
            parts = name.split(".")
            # A module, or something in a module: the longest prefix that is a module, and the next name in its text.
            for length in range(len(parts), 0, -1):
                path = ROOT.joinpath(*parts[:length])
                source = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
                if source.is_file():
                    rest = parts[length:]
                    if rest and not re.search(rf"\b{rest[0]}\b", source.read_text(encoding="utf-8")):
                        missing.append(f"{page.relative_to(ROOT)}: {name}")
                    break
            else:
                missing.append(f"{page.relative_to(ROOT)}: {name}")
    assert not missing, "\n".join(missing)

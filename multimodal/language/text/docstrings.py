"""English that is installed anyway: docstrings of torch, SciPy, scikit-learn and NumPy, and Python's own topics.

Sources are parsed, never imported. Some 15 MB are found in about 15 s; a file in the user's cache folder keeps them.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import sysconfig
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.progress import track

from multimodal.common.errors import DataError
from multimodal.common.records import write_atomically

# Folder in the site packages, name of the distribution.
PACKAGES = {"torch": "torch", "scipy": "scipy", "sklearn": "scikit-learn", "numpy": "numpy"}
TOPICS = "python"
"""What the standard library's `pydoc_data` counts as."""
HELD_OUT_SHARE = 10
"""One document in so many is never trained on, neither in pretraining nor in a task."""


@dataclass(frozen=True, kw_only=True)
class Docstring:
    """What documents one module, class or function.

    Attributes:
        package: torch, scipy, sklearn, numpy or python.
        name: of the class or function; empty for a module.
        parameters: names of a function's parameters, without `self` and `cls`; None for what is no function.
        text: the docstring.
    """

    package: str
    name: str
    parameters: tuple[str, ...] | None
    text: str

    @property
    def signature(self) -> str:
        """`name(a, b)`."""
        return f"{self.name}({', '.join(self.parameters or ())})"


def is_held_out(text: str | bytes) -> bool:
    """Whether a document is left out of training. It depends on the text alone, so copies are on the same side."""
    data = text.encode() if isinstance(text, str) else text
    return zlib.crc32(data) % HELD_OUT_SHARE == 0


def read_docstrings() -> list[Docstring]:
    """All of them, each text once, in the order of packages and files.

    Raises:
        DataError: no source of the packages is installed.
    """
    cache = _cache_file()
    if cache is not None and cache.is_file():
        with cache.open(encoding="utf-8") as stream:
            return [_from_json(json.loads(line)) for line in stream]
    found = _find()
    if not found:
        raise DataError("no docstrings were found in the installed packages; give text of your own with --data")
    if cache is not None:
        lines = (json.dumps(asdict(docstring), ensure_ascii=False) for docstring in found)
        write_atomically(cache, "".join(f"{line}\n" for line in lines))
    return found


def _from_json(record: dict[str, object]) -> Docstring:
    parameters = record.pop("parameters")
    assert parameters is None or isinstance(parameters, list)
    return Docstring(**record, parameters=None if parameters is None else tuple(parameters))  # type: ignore[arg-type]


def _cache_file() -> Path | None:
    """Where they are kept for these versions of the packages; None where no folder can be written."""
    versions = ",".join(f"{name} {version(name)}" for name in PACKAGES.values())
    key = hashlib.sha256(versions.encode()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "perceiver-agents"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder / f"docstrings-{key}.jsonl" if os.access(folder, os.W_OK) else None


def _find() -> list[Docstring]:
    site = Path(sysconfig.get_paths()["purelib"])
    files = [(package, path) for package in PACKAGES for path in sorted((site / package).rglob("*.py"))]
    files = [(package, path) for package, path in files if "tests" not in path.parts]
    shown = track(files, "reading docstrings", console=Console(stderr=True), transient=True)
    by_text: dict[str, Docstring] = {}
    for package, path in shown:
        for docstring in docstrings_of(package, path.read_text(encoding="utf-8", errors="replace")):
            by_text.setdefault(docstring.text, docstring)
    for text in _topics():
        by_text.setdefault(text, Docstring(package=TOPICS, name="", parameters=None, text=text))
    return list(by_text.values())


def docstrings_of(package: str, source: str) -> Iterator[Docstring]:
    """The docstrings of one file; of a file that does not parse, none."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            continue
        text = ast.get_docstring(node)
        if not text:
            continue
        parameters = None
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = node.args
            named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
            parameters = tuple(item.arg for item in named if item.arg not in ("self", "cls"))
        name = "" if isinstance(node, ast.Module) else node.name
        yield Docstring(package=package, name=name, parameters=parameters, text=text)


def _topics() -> list[str]:
    """The language reference that `help()` shows, by topic."""
    path = Path(sysconfig.get_paths()["stdlib"]) / "pydoc_data" / "topics.py"
    if not path.is_file():
        return []
    tree = ast.parse(path.read_text(encoding="utf-8"))
    dictionaries = [node for node in ast.walk(tree) if isinstance(node, ast.Dict)]
    values = [value for node in dictionaries for value in node.values]
    return [value.value.strip() for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)]

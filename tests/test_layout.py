"""Which way imports point, and who may import what: the law of the layout, and the order in which to read the project.

Imports are taken from the syntax trees of all files, so those inside functions and under `TYPE_CHECKING` count too. An
import of a name from a package's `__init__` is an import of that file; its parent packages are not counted.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What each package may import of the others, besides `COMMON`.
PACKAGES: dict[str, tuple[str, ...]] = {
    "perceiver_agents": (),
    "perceiver_core": (),
    "envs": (),
    "multimodal": ("perceiver_core",),
    "agents": ("perceiver_core", "envs"),
}
# What is installed, where paths lead, and what a package is called: for all.
COMMON = "perceiver_agents"

# The floors of each package, in reading order from the ground up. A node is a folder (its own files) or a file, without
# its `.py`; a file that has no line of its own belongs to its folder. A node imports from floors below, and from nodes
# on its own floor as long as no circle arises. A package's `__init__`, on top, offers what its users import.
FLOORS: dict[str, list[tuple[str, ...]]] = {
    "perceiver_agents": [("imports", "paths"), ("__init__",)],
    "perceiver_core": [
        ("config", "checks"),
        ("accelerated",),  # what makes attention fast, on plain tensors
        ("attention",),
        ("position", "bottleneck", "attention_maps"),
        ("inputs",),
        ("queries", "outputs"),
        ("hub",),
        ("model",),
        ("entities", "folding", "autoregressive"),
        ("presets",),
        ("pretrained",),
        ("__init__",),
    ],
    "envs": [
        ("actions",),
        ("engine/state",),
        ("engine/simd",),
        ("engine",),
        ("scenarios",),
        ("views",),
        ("rules",),
        ("runtime",),
        ("economy",),
        ("render",),
        ("vector_env", "env", "parallel_env"),
        ("protocol",),
        ("pysc2", "smac", "economy_env", "gallery"),
        ("fidelity",),
        ("__init__",),
    ],
    "agents": [
        ("configuration",),
        ("models",),
        ("losses",),
        ("presets",),
        ("acting", "runs"),
        ("league",),
        ("rllib",),
        ("evaluation",),
        ("evaluate",),
        ("train", "clone"),
        ("__init__",),
    ],
    "multimodal": [
        ("common",),
        ("clips",),
        ("language/text",),
        ("language/tasks",),
        ("autoencoder", "language", "flow"),
        ("__init__",),
    ],
}

# The only places that import these libraries.
ONLY_IN: dict[str, tuple[str, ...]] = {
    "ray": ("agents/rllib", "agents/acting/demonstrations", "multimodal/common"),
    "torch": ("perceiver_core", "agents", "multimodal"),
    "gymnasium": ("envs", "agents"),
    "numba": ("envs",),
}

# All that a package imports besides Python's own library; other packages are free but for the lines above.
CLOSED: dict[str, tuple[str, ...]] = {"perceiver_core": ("torch", "safetensors", "huggingface_hub")}

# Never imported by what is installed.
OUTSIDE = ("tests", "benchmarks", "examples")


@dataclass(frozen=True)
class Import:
    """One import: its place, and the module that it names (`target` where that is a file of the project)."""

    file: str
    line: int
    module: str
    target: str | None

    def __str__(self) -> str:
        return f"{self.file}.py:{self.line}: imports {self.module}"


def project_files(root: Path) -> dict[str, str]:
    """Module name -> file without `.py`, relative to the root, of all files of the packages."""
    files = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            file = path.relative_to(root).with_suffix("").as_posix()
            files[file.removesuffix("/__init__").replace("/", ".")] = file
    return files


@cache
def imports_of(root: Path) -> list[Import]:
    """All imports of all files."""
    files = project_files(root)
    return [found for file in files.values() for found in _file_imports(root, file, files)]


def _file_imports(root: Path, file: str, files: dict[str, str]) -> Iterator[Import]:
    path = root / f"{file}.py"
    for statement in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(statement, ast.Import):
            modules = [alias.name for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom):
            origin = statement.module or ""
            if statement.level:
                package = file.split("/")[: -statement.level]
                origin = ".".join([*package, *([statement.module] if statement.module else [])])
            names = [f"{origin}.{alias.name}" for alias in statement.names]
            modules = [name if name in files else origin for name in names]
        else:
            continue
        for module in dict.fromkeys(modules):
            yield Import(file, statement.lineno, module, files.get(module))


def within(file: str, places: Iterable[str]) -> bool:
    """Whether a file is one of the places, or lies in one of them."""
    return any(file == place or file.startswith(f"{place}/") for place in places)


def node_of(file: str) -> str:
    """The node of a file: the floors' most specific line, else its folder, else (at a package's root) itself."""
    package, *_ = file.split("/")
    listed = {f"{package}/{name}" for floor in FLOORS[package] for name in floor}
    folder = file.rpartition("/")[0]
    return file if file in listed or folder == package else folder


def floor_of(node: str) -> int | None:
    """How high a node stands in its package; None: no floor names it."""
    package, _, name = node.partition("/")
    heights = [height for height, floor in enumerate(FLOORS[package]) if name in floor]
    return heights[0] if heights else None


def circles(imports: list[Import], place: Callable[[str], str]) -> list[str]:
    """A sentence for every group of places that import each other in a circle, with the imports that close it."""
    edges: dict[str, dict[str, Import]] = {}
    for found in imports:
        if found.target is not None and place(found.file) != place(found.target):
            edges.setdefault(place(found.file), {}).setdefault(place(found.target), found)
    reach = {start: _reachable(start, edges) for start in edges}
    groups = {
        frozenset({other for other in reach[start] if start in reach.get(other, ())})
        for start in edges
        if start in reach[start]
    }
    sentences = []
    for group in sorted(groups, key=sorted):
        inner = [str(found) for a in sorted(group) for b, found in sorted(edges[a].items()) if b in group]
        sentences.append(f"a circle of {', '.join(sorted(group))}:\n    " + "\n    ".join(inner))
    return sentences


def _reachable(start: str, edges: dict[str, dict[str, Import]]) -> set[str]:
    seen: set[str] = set()
    ahead = list(edges.get(start, ()))
    while ahead:
        place = ahead.pop()
        if place not in seen:
            seen.add(place)
            ahead += edges.get(place, ())
    return seen


def file_circles(root: Path) -> list[str]:
    """No circle between files."""
    return circles(imports_of(root), lambda file: file)


def node_circles(root: Path) -> list[str]:
    """No circle between folders and root modules."""
    return circles(imports_of(root), node_of)


def package_directions(root: Path) -> list[str]:
    """Packages import only those below them."""
    problems = []
    for found in imports_of(root):
        own, other = found.file.split("/")[0], found.module.split(".")[0]
        if other not in (own, COMMON) and other in PACKAGES and other not in PACKAGES[own]:
            allowed = ", ".join(PACKAGES[own]) or "no other package"
            problems.append(f"{found}, but `{own}` may import {allowed}")
    return problems


def floor_directions(root: Path) -> list[str]:
    """Inside a package, nodes import from their own floor and from those below."""
    problems = []
    for found in imports_of(root):
        if found.target is None or found.file.split("/")[0] != found.target.split("/")[0]:
            continue
        own, other = node_of(found.file), node_of(found.target)
        height, other_height = floor_of(own), floor_of(other)
        if height is not None and other_height is not None and other_height > height:
            problems.append(f"{found}, but `{other}` stands above `{own}`")
    return problems


def floors_are_complete(root: Path) -> list[str]:
    """Every node has a floor, and every floor names something that exists."""
    nodes = {node_of(file) for file in project_files(root).values()}
    listed = {f"{package}/{name}" for package, floors in FLOORS.items() for floor in floors for name in floor}
    listed = {node for node in listed if (root / node.split("/")[0]).is_dir()}
    return [
        *(f"{node} stands on no floor: name it in FLOORS where it belongs" for node in sorted(nodes - listed)),
        *(f"FLOORS names {node}, which does not exist" for node in sorted(listed - nodes)),
    ]


def library_places(root: Path) -> list[str]:
    """Libraries are imported only where they belong."""
    problems = []
    for found in imports_of(root):
        library, package = found.module.split(".")[0], found.file.split("/")[0]
        if library in OUTSIDE:
            problems.append(f"{found}, which is not installed with the project")
        elif library in ONLY_IN and not within(found.file, ONLY_IN[library]):
            problems.append(f"{found}, but only {', '.join(ONLY_IN[library])} may import {library}")
        elif package in CLOSED and library not in {*sys.stdlib_module_names, *PACKAGES, *CLOSED[package]}:
            problems.append(f"{found}, but `{package}` imports only {', '.join(CLOSED[package])}")
    return problems


LAWS = [file_circles, node_circles, package_directions, floor_directions, floors_are_complete, library_places]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_law(law: Callable[[Path], list[str]]) -> None:
    problems = law(ROOT)
    assert not problems, f"{law.__doc__}\n" + "\n".join(problems)


def test_imports_are_found() -> None:
    """The laws hold of something: all packages are there and their imports are resolved to files."""
    imports = imports_of(ROOT)
    assert {found.file.split("/")[0] for found in imports} == set(PACKAGES)
    assert sum(found.target is not None for found in imports) > 500


BROKEN = {
    "file_circles": (
        {
            "envs/actions.py": "def f():\n    from envs.views.commands import x",
            "envs/views/commands.py": "import envs.actions",
        },
        ["envs/actions.py:2: imports envs.views.commands", "envs/views/commands.py:1: imports envs.actions"],
    ),
    "node_circles": (
        {
            "envs/views/a.py": "from envs.rules import b",
            "envs/rules/b.py": "",
            "envs/rules/c.py": "from ..views import d",
            "envs/views/d.py": "",
        },
        ["envs/views/a.py:1: imports envs.rules.b", "envs/rules/c.py:1: imports envs.views.d"],
    ),
    "package_directions": (
        {"envs/env.py": "from agents.train import main", "agents/train.py": ""},
        ["envs/env.py:1: imports agents.train", "no other package"],
    ),
    "floor_directions": (
        {
            "perceiver_core/attention.py": "from typing import TYPE_CHECKING\n"
            "if TYPE_CHECKING:\n    from .model import PerceiverIO",
            "perceiver_core/model.py": "",
        },
        ["perceiver_core/attention.py:3: imports perceiver_core.model, but `perceiver_core/model` stands above"],
    ),
    "floors_are_complete": (
        {"envs/weather/rain.py": ""},
        ["envs/weather stands on no floor", "FLOORS names envs/actions, which does not exist"],
    ),
    "library_places": (
        {
            "envs/env.py": "import torch.nn",
            "multimodal/clips/loader.py": "def f():\n    import ray",
            "perceiver_core/model.py": "import numpy",
            "agents/train.py": "from benchmarks import harness",
        },
        [
            "envs/env.py:1: imports torch.nn, but only perceiver_core, agents, multimodal",
            "multimodal/clips/loader.py:2: imports ray",
            "perceiver_core/model.py:1: imports numpy",
            "agents/train.py:1: imports benchmarks",
        ],
    ),
}


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_broken_law_is_seen(law: Callable[[Path], list[str]], tmp_path: Path) -> None:
    files, sentences = BROKEN[law.__name__]
    for name, source in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source)
    problems = "\n".join(law(tmp_path))
    assert all(sentence in problems for sentence in sentences), problems

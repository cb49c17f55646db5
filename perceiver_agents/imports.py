"""`perceiver_agents.envs`, `.agents`, `.multimodal`, `.perceiver_core`: the packages under names that nobody else has.

Other projects have packages named `envs` or `agents` too, and Python takes what it finds first. Under
`perceiver_agents` the packages that lie beside it are found from everywhere. They are loaded as modules of their own,
whose imports of each other are read as imports of `perceiver_agents.envs` and so on. So `perceiver_agents.envs` and
`envs` are two copies: a program takes one of the names throughout.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

PREFIX = __name__.partition(".")[0]
PACKAGES = ("perceiver_core", "envs", "agents", "multimodal")
ROOT = Path(__file__).resolve().parents[1]


class _Prefixed(ast.NodeTransformer):
    """Turns `from envs.x import y` into `from perceiver_agents.envs.x import y`, inside functions too."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom:
        if not node.level and node.module and node.module.partition(".")[0] in PACKAGES:
            node.module = f"{PREFIX}.{node.module}"
        return node

    def visit_Import(self, node: ast.Import) -> ast.Import:
        for alias in node.names:
            if alias.name.partition(".")[0] in PACKAGES:
                if alias.asname is None:
                    raise ImportError(f"`import {alias.name}` cannot be renamed; write `from ... import ...`")
                alias.name = f"{PREFIX}.{alias.name}"
        return node


class _Loader(SourceFileLoader):
    """Loads a module of ours with its imports renamed."""

    def get_code(self, fullname: str) -> CodeType:
        # Not from `__pycache__`: what lies there was compiled from the plain imports.
        tree = _Prefixed().visit(ast.parse(self.get_data(self.path), self.path))
        return compile(tree, self.path, "exec", dont_inherit=True)


class _Finder(MetaPathFinder):
    """Finds the packages, and what is in them, beside `perceiver_agents`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        prefix, *names = fullname.split(".")
        if prefix != PREFIX or not names or names[0] not in PACKAGES:
            return None
        found = PathFinder.find_spec(fullname, [str(ROOT.joinpath(*names[:-1]))])
        if found is not None and isinstance(found.loader, SourceFileLoader):
            found.loader = _Loader(fullname, found.loader.path)
        return found


def install() -> None:
    """Makes the names below `perceiver_agents` known; the package calls it when it is imported."""
    finders: list[Any] = sys.meta_path
    if not any(isinstance(finder, _Finder) for finder in finders):
        finders.insert(0, _Finder())

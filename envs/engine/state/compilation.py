"""How kernels are compiled, and when their machine code on disk is out of date.

Numba stamps a cached function with its own source file only. Its machine code also holds every function and constant
that it takes from other modules. Here a kernel's stamp is a digest of its module and of all modules of the package that
this one imports, directly or not. The digest covers what the sources mean: bytecode, constants and names. Docstrings,
comments and line numbers are left out, so an edit of those compiles nothing anew.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

from numba import njit
from numba.core.caching import IndexDataCacheFile

_ROOT = Path(__file__).resolve().parents[3]
"""The folder of the package."""
_PACKAGE = Path(__file__).resolve().parents[2].name
_MEMORY = Path(__file__).with_name("__pycache__") / f"meanings.{sys.implementation.cache_tag}.json"
"""Keeps what `_read` found: to parse the sources takes longer than to import the package."""


class _Source(NamedTuple):
    text_digest: str
    """Of the file's bytes, and of this file's, which says how the rest was found."""
    meaning_digest: str
    imports: list[str]
    """Files of the package that the module imports, relative to `_ROOT`."""


def modules_of(file: Path) -> list[Path]:
    """A module and everything that it imports from the package, directly or not.

    Raises:
        ImportError: one imports something from the package that is not there, or by a relative name.
    """
    return [_ROOT / name for name in _closure(file)]


def source_stamp(file: Path) -> str:
    """Digest of what a module, and everything that it imports from the package, mean.

    Raises:
        ImportError: as `modules_of`.
    """
    # Without the names: a copy of the package elsewhere means the same.
    digests = sorted(source.meaning_digest for source in _closure(file).values())
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _closure(file: Path) -> dict[str, _Source]:
    found: dict[str, _Source] = {}
    left = [os.path.relpath(file.resolve(), _ROOT)]
    before = len(_changed)
    while left:
        name = left.pop()
        if name not in found:
            found[name] = _sources()[name] = _read(name)
            left.extend(found[name].imports)
    if len(_changed) > before:
        _store(_sources())
    return found


_changed: list[str] = []
"""Files that had to be parsed."""


@cache
def _sources() -> dict[str, _Source]:
    """What earlier processes found."""
    try:
        return {name: _Source(*facts) for name, facts in json.loads(_MEMORY.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _store(sources: dict[str, _Source]) -> None:
    """Writes what this process found; without the right to, later processes parse again."""
    try:
        _MEMORY.parent.mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=_MEMORY.parent, delete=False) as file:
            json.dump(sources, file)
        os.chmod(file.name, 0o644)
        os.replace(file.name, _MEMORY)
    except OSError:
        return


@cache
def _text_digest(path: Path) -> str:
    return hashlib.sha256(Path(__file__).read_bytes() + path.read_bytes()).hexdigest()


@cache
def _read(name: str) -> _Source:
    path = _ROOT / name
    text_digest = _text_digest(path)
    known = _sources().get(name)
    if known and known.text_digest == text_digest and all((_ROOT / file).is_file() for file in known.imports):
        return known
    _changed.append(name)
    tree = ast.parse(path.read_bytes(), str(path))
    imports = {str(file.relative_to(_ROOT)) for node in ast.walk(tree) for file in _imported_files(node, path)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node, clean=False
        ):
            # `compile` needs a position, and puts it into tables that the digest leaves out.
            node.body[:1] = [] if len(node.body) > 1 else [ast.copy_location(ast.Pass(), node.body[0])]
    digest = hashlib.sha256()
    _add_code(digest, compile(tree, str(path), "exec", dont_inherit=True))
    return _Source(text_digest, digest.hexdigest(), sorted(imports))


def _imported_files(node: ast.AST, importer: Path) -> list[Path]:
    """The files of the package that an import statement names."""
    if isinstance(node, ast.Import):
        names = [(alias.name, "") for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        if node.level:
            raise ImportError(f"{importer}, line {node.lineno}: relative import; expected `from {_PACKAGE}.` ...")
        names = [(node.module or "", alias.name) for alias in node.names]
    else:
        return []
    files = []
    for module, name in names:
        if module.partition(".")[0] == _PACKAGE:
            # What is imported from a module is a module itself, or one of its names.
            file = _file_of(f"{module}.{name}") or _file_of(module)
            if file is None:
                raise ImportError(f"{importer}, line {node.lineno}: there is no module {module}")
            files.append(file)
    return files


def _file_of(module: str) -> Path | None:
    place = _ROOT.joinpath(*module.split("."))
    for file in (place.with_suffix(".py"), place / "__init__.py"):
        if file.is_file():
            return file
    return None


def _add_code(digest: Any, code: CodeType) -> None:
    """Adds everything of a code object to the digest but its file, its lines and its columns."""
    facts = (
        code.co_name,
        code.co_code,
        code.co_exceptiontable,
        code.co_names,
        code.co_varnames,
        code.co_freevars,
        code.co_cellvars,
        code.co_argcount,
        code.co_posonlyargcount,
        code.co_kwonlyargcount,
        code.co_flags,
    )
    digest.update(repr(facts).encode())
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _add_code(digest, constant)
        elif isinstance(constant, frozenset):
            # The order of a set of strings differs between processes.
            digest.update(repr(sorted(map(repr, constant))).encode())
        else:
            digest.update(repr(constant).encode())


def _stamped(**options: Any) -> Callable[..., Any]:
    """A decorator like `njit(cache=True, **options)`; `source_stamp` says when the code on disk is out of date."""
    compiler = njit(cache=True, **options)

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher = compiler(function)
        stored = getattr(dispatcher, "_cache", None)
        if stored is None:  # Numba is switched off
            return dispatcher
        name = stored._impl.filename_base
        if "locals" not in function.__qualname__:
            # One function has this name: the file needs no line number, which a comment above it would change.
            name = name.replace(f"-{function.__code__.co_firstlineno}.", ".")
        if not function.__module__.startswith(f"{_PACKAGE}."):
            # Under another name (`perceiver_agents.imports`): its machine code speaks of types of that name.
            name = f"{function.__module__.partition('.')[0]}.{name}"
        stamp = source_stamp(Path(function.__code__.co_filename))
        stored._cache_file = IndexDataCacheFile(stored.cache_path, name, stamp)
        return dispatcher

    return decorate


# Every kernel: no GIL, errors as in NumPy (a division by zero is inf, not a branch). The arrays outlive the call, so no
# references are counted: the atomic increments would cost more than the battle.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False}
kernel = _stamped(**_OPTIONS)
# LLVM merges the parts of a loop or of a phase into it: a call would pass the fields of every array on the stack.
# Merging in Numba's own representation (`inline="always"`) gives the same speed, but copies the part once for each of
# its blocks.
inline_kernel: Callable[..., Any] = njit(forceinline=True, **_OPTIONS)
# What Python calls with structures: these hold references, so here they are counted.
entry = _stamped(nogil=True, error_model="numpy")

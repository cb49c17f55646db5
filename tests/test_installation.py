"""What is installed: extras bring what their packages import, and every package says which extra it lacks."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from importlib.util import resolve_name
from pathlib import Path

import pytest

import perceiver_agents

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OWN = ("perceiver_agents", "perceiver_core", "envs", "agents", "multimodal")
# Package -> the extra that brings what it imports (None: the base).
EXTRAS = {"perceiver_agents": None, "perceiver_core": None, "envs": "envs", "envs/pysc2": "pysc2"}
EXTRAS |= {"agents": "agents", "multimodal": "multimodal"}
# What comes with a requirement that is named: its own parts, by the requirement.
PARTS = {"llvmlite": "numba", "triton": "torch", "tree": "ray"}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def required_by(extra: str | None) -> set[str]:
    """Names of the distributions that the base and an extra ask for."""
    names: set[str] = set()
    lines = list(PROJECT["dependencies"]) + (PROJECT["optional-dependencies"][extra] if extra else [])
    for line in lines:
        match = re.match(r"([\w.-]+)(?:\[([\w,]+)\])?", line)
        assert match is not None, line
        if match[1] == PROJECT["name"]:
            names = names.union(*(required_by(inner) for inner in match[2].split(",")))
        else:
            names.add(normal(match[1]))
    return names


def third_party_imports(folder: Path) -> Iterator[tuple[str, Path]]:
    """Top-level names of what the files of a package import, lazy imports too, besides Python's library and our own."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [resolve_name("." * node.level + (node.module or ""), "envs")]
            for name in (full.split(".")[0] for full in names):
                if name not in sys.stdlib_module_names and name not in OWN:
                    yield name, path


def required_modules(init: Path) -> tuple[str, set[str]]:
    """The arguments of a package's call of `require`."""
    for node in ast.walk(ast.parse(init.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "require":
            extra, *modules = (ast.literal_eval(argument) for argument in node.args)
            return extra, set(modules)
    raise AssertionError(f"{init} does not call require")


@pytest.mark.parametrize("package", EXTRAS)
def test_extra_brings_what_its_package_imports(package: str) -> None:
    brought = required_by(EXTRAS[package])
    distributions = packages_distributions()
    for name, path in third_party_imports(ROOT / package):
        if package == "envs" and path.parent.name in ("pysc2", "fidelity"):
            continue
        owners = {normal(owner) for owner in distributions[PARTS.get(name, name)]}
        if name == "google":
            owners = {"protobuf"}
        assert owners & brought, f"{path.relative_to(ROOT)} imports {name}, which {EXTRAS[package]!r} does not bring"


@pytest.mark.parametrize("package", [package for package, extra in EXTRAS.items() if extra])
def test_package_asks_for_what_it_imports(package: str) -> None:
    """What a package imports is asked for in its `__init__`, is in the base, or comes with what is asked for.

    Ray is asked for where it is talked to.
    """
    extra, asked = required_modules(ROOT / package / "__init__.py")
    assert extra == EXTRAS[package]
    if package == "envs/pysc2":
        asked |= required_modules(ROOT / "envs" / "__init__.py")[1]
    with_others = {"llvmlite": "numba", "google": "s2clientprotocol"}
    base = {"torch", "numpy", "safetensors", "huggingface_hub"}
    for name, path in third_party_imports(ROOT / package):
        if name == "ray" or (package == "envs" and path.parent.name in ("pysc2", "fidelity")):
            continue
        assert with_others.get(name, name) in asked | base, f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize(
    ("module", "hidden", "extra"),
    [
        ("envs", "numba", "envs"),
        ("envs.vector_env", "gymnasium", "envs"),
        ("envs.pysc2.client", "pysc2_evolved", "pysc2"),
        ("agents.train", "matplotlib", "agents"),
        ("agents.rllib.algorithm", "ray", "agents"),
        ("multimodal.clips", "av", "multimodal"),
    ],
)
def test_import_without_its_extra_names_the_extra(module: str, hidden: str, extra: str) -> None:
    code = f"import sys; sys.modules[{hidden!r}] = None; import {module}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    said = done.stderr.strip().splitlines()[-1]
    assert said == f"ImportError: {hidden} not installed. Install with: pip install 'perceiver-agents[{extra}]'"


def test_ray_is_asked_for_before_it_is_started() -> None:
    code = "import sys; sys.modules['ray'] = None; from multimodal.common.ray_cluster import connect; connect(None, 1)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr.strip().endswith("ray not installed. Install with: pip install 'perceiver-agents[multimodal]'")


def test_base_works_alone() -> None:
    """The core imports nothing that only an extra brings, and neither does its whole use."""
    modules = {"gymnasium", "numba", "ray", "av", "torchvision", "torchaudio", "tyro", "rich", "PIL", "matplotlib"}
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({sorted(modules)}))\n"
        "import pkgutil, importlib, perceiver_core\n"
        "for found in pkgutil.walk_packages(perceiver_core.__path__, 'perceiver_core.'):\n"
        "    importlib.import_module(found.name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_dev_brings_everything() -> None:
    assert required_by("dev") >= required_by("all")
    assert required_by("all") == {name for extra in set(EXTRAS.values()) for name in required_by(extra)}


def test_constraints_pin_every_requirement_and_name_no_place() -> None:
    lines = (ROOT / "constraints.txt").read_text().split()
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.]+", line) for line in lines)
    assert {normal(line.split("==")[0]) for line in lines} >= required_by("dev")


@pytest.mark.parametrize("script", PROJECT["scripts"])
def test_every_command_tells_the_version(script: str, capsys: pytest.CaptureFixture[str]) -> None:
    module, _, name = PROJECT["scripts"][script].partition(":")
    main = getattr(__import__(module, fromlist=[name]), name)
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"{script} {perceiver_agents.__version__}\n"


def test_version_is_the_same_everywhere() -> None:
    version = re.escape(perceiver_agents.__version__)
    assert re.search(rf"^version: {version}$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert re.search(rf"^## {version}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_every_package_says_that_it_is_typed() -> None:
    assert all((ROOT / package / "py.typed").is_file() for package in OWN)

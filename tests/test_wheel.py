"""A wheel built from the tree works where the tree is not: its files, its commands, its compiled code."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import perceiver_agents

ROOT = Path(__file__).parents[1]
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
PACKAGES = ("perceiver_agents", "perceiver_core", "envs", "agents", "multimodal")
# Compiles one small kernel of the environment and says so.
COMPILE_ONE = """
import numpy
from envs.runtime import driver, first_use
from envs.scenarios.compiled import Output
first_use.QUIET_SECONDS = 0.0
driver.make_output(Output(*(numpy.zeros((1, 1, 1)) for _ in Output._fields)))
"""


def run(*command: str | Path, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the tree, by the build tools of this environment: nothing is fetched."""
    source = tmp_path_factory.mktemp("source")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", ".")
    run(*build, folder=source)
    (built,) = source.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's packages and commands in a folder; all that they need comes from this environment."""
    folder = tmp_path_factory.mktemp("installed")
    run(
        *(sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--no-compile", "--quiet"),
        *("--target", folder, wheel),
        folder=folder,
    )
    return folder


def test_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    """Sources, tables, scenarios and `py.typed`: what the tree holds, and nothing beside it."""
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    suffixes = (".py", ".toml", ".typed", ".csv", ".json")
    files = (path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file())
    kept = (path for path in files if path.suffix in suffixes and "__pycache__" not in path.parts)
    assert held == {path.relative_to(ROOT).as_posix() for path in kept}


def test_packages_and_their_tables_are_read_from_the_installation(installed: Path, tmp_path: Path) -> None:
    code = f"""
import importlib, gymnasium, torch
for name in {PACKAGES}:
    print(importlib.import_module(name).__file__)
from envs.scenarios.scenario import load_scenario, scenario_names
for name in scenario_names():
    load_scenario(name)
from envs.scenarios.compiler import scenario_rules
scenario_rules(load_scenario("3m"))
import envs.protocol.abilities, envs.economy.step
assert "perceiver_sc2/3m-v0" in gymnasium.registry
from perceiver_core.presets import entity_encoder
"""
    done = run(sys.executable, "-c", code, folder=tmp_path, PYTHONPATH=str(installed))
    assert done.stdout.split() == [str(installed / package / "__init__.py") for package in PACKAGES]


def test_commands_are_installed(installed: Path, tmp_path: Path) -> None:
    """All of them; one of each package that a command imports is run."""
    assert {path.name for path in (installed / "bin").iterdir()} == set(SCRIPTS)
    for script in ("perceiver-sc2-server", "perceiver-train-agent", "perceiver-reconstruct"):
        done = run(installed / "bin" / script, "--version", folder=tmp_path, PYTHONPATH=str(installed))
        assert done.stdout == f"{script} {perceiver_agents.__version__}\n"


def test_compiled_code_is_kept_for_the_user_where_the_installation_cannot_be_written(
    installed: Path, tmp_path: Path
) -> None:
    """A file in the place of `__pycache__` stands for a folder that cannot be written, for any user."""
    home, packages = tmp_path / "home", tmp_path / "packages"
    home.mkdir()
    shutil.copytree(installed, packages, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in [path for path in (packages / "envs").rglob("*") if path.is_dir()]:
        (folder / "__pycache__").touch()
    environment = {"PYTHONPATH": str(packages), "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    first = run(sys.executable, "-c", COMPILE_ONE, folder=tmp_path, NUMBA_CACHE_DIR="", **environment)
    assert "compiling" in first.stderr
    assert list(home.rglob("driver.make_output*.nbi"))
    second = run(sys.executable, "-c", COMPILE_ONE, folder=tmp_path, NUMBA_CACHE_DIR="", **environment)
    assert not second.stderr


@pytest.mark.slow
def test_worlds_of_the_installation_are_played(installed: Path, tmp_path: Path) -> None:
    """Everything that an environment compiles, from nothing: a minute on two cores."""
    code = """
import envs
worlds = envs.SC2VectorEnv("3m", num_envs=4)
worlds.reset(seed=0)
for _ in range(200):
    ended = worlds.step(worlds.scripted_action("focus-fire"))[2]
"""
    done = run(sys.executable, "-c", code, folder=tmp_path, PYTHONPATH=str(installed))
    assert "compiling the simulator's kernels (once)" in done.stderr
    assert list(installed.rglob("driver.advance_battles*.nbi"))

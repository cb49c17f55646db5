"""The packages under the names that nobody else has, in a project with an `envs` of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from perceiver_agents.imports import PACKAGES, ROOT, _Prefixed

PLAY = """
import envs
assert envs.OURS, "the project's own package"
import gymnasium
import perceiver_agents.envs
from perceiver_agents.envs.smac import StarCraft2Env

env = StarCraft2Env("3m", seed=0)
single = gymnasium.make("perceiver_agents.envs:perceiver_sc2/3m-v0")
import sys
if "play" in sys.argv:
    env.reset()
    env.step([1, 1, 1])
    single.reset(seed=0)
import perceiver_agents.agents.models.network as network
import perceiver_agents.multimodal.common.settings as settings
mixed = [name for name in sys.modules if name.split(".")[0] in ("agents", "multimodal", "perceiver_core")]
assert not mixed and network.__name__.startswith("perceiver_agents.") and settings, mixed
assert [name for name in sys.modules if name.split(".")[0] == "envs"] == ["envs"]
print("played", env.get_env_info()["n_actions"], type(single.unwrapped).__module__)
"""


@pytest.mark.parametrize("part", ["load", pytest.param("play", marks=pytest.mark.slow)])  # kernels compile once a name
def test_a_project_with_packages_of_the_same_names_uses_ours(tmp_path: Path, part: str) -> None:
    for name in ("envs", "agents"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("OURS = True\n")
    (tmp_path / "play.py").write_text(PLAY)
    done = subprocess.run(
        [sys.executable, "play.py", part],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{tmp_path}:{ROOT}", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["played", "9", "perceiver_agents.envs.env"]


def test_every_module_can_be_renamed() -> None:
    """`import envs.x` without a name of its own could not: the name `envs` would be missing."""
    import ast

    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            _Prefixed().visit(ast.parse(file.read_text()))


def test_what_is_not_there_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"perceiver_agents\.envs\.nothing"):
        __import__("perceiver_agents.envs.nothing")
    with pytest.raises(ModuleNotFoundError, match=r"perceiver_agents\.others"):
        __import__("perceiver_agents.others")

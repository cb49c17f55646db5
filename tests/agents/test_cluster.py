"""The command of the cluster tutorial, on a cluster of three nodes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHORT = (
    "--world.num-envs 4 --network.channels 16 --network.num-latents 2 --network.num-heads 1 --budget.env-steps 2048"
    " --evaluation.episodes 2 --evaluation.num-envs 2 --evaluation.videos 0"
)


@pytest.fixture
def address() -> Iterator[str]:
    """A cluster of three nodes with two cores each, on the loopback interface."""
    import ray
    from ray.cluster_utils import Cluster

    ray.shutdown()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=2)
        yield cluster.address
    finally:
        cluster.shutdown()


@pytest.mark.slow
def test_the_tutorials_command_trains_on_several_nodes(tmp_path: Path, address: str) -> None:
    layout = "--cluster.num-env-runners 2 --cluster.num-learners 1"
    command = f"--preset 3m --run runs/cluster --cluster.ray-address {address} {layout} {SHORT}"
    done = subprocess.run(
        [sys.executable, "-m", "agents.train", *command.split()],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (tmp_path / "runs/cluster/metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["env_steps"] >= 2048
    assert list((tmp_path / "runs/cluster/evaluations").rglob("report.html"))

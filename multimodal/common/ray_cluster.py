"""Starting and reaching Ray: on the loopback interface unless a cluster is named."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

from perceiver_agents import require

# Ray's own switch between "this machine only" (every server binds 127.0.0.1) and clusters; on by default on Linux,
# where it would listen on all interfaces. Read when Ray is imported, so modules here import Ray after `connect`.
_CLUSTERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
# Read by Ray's modules when they are imported, or when Ray is started. Each can be set otherwise from outside.
_QUIET = {
    "RAY_AUTH_MODE": "disabled",  # no token in the user's home, and no warning that there is none
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray gives its workers a low priority: on a machine with other load, a training would take minutes to start.
    "RAY_worker_niceness": "0",
}
_START_ATTEMPTS = 5


def connect(address: str | None, num_cpus: int) -> None:
    """Connects to the Ray cluster at `address`, or starts Ray on this machine with `num_cpus`; one at work is kept.

    Raises:
        RuntimeError: Ray would have to be started, but was imported before in a way that makes it listen on all
            network interfaces.
        ImportError: Ray is not installed.
    """
    require("multimodal", "ray")
    if address is None and "ray" not in sys.modules:
        os.environ.setdefault(_CLUSTERS, "0")
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        return
    if address is None and _CLUSTERS not in os.environ:
        raise RuntimeError(
            f"Ray was imported before {_CLUSTERS}=0 could be set, so its servers would listen on all network "
            "interfaces: set that variable (1 allows it), or start Ray yourself with ray.init"
        )
    for attempts_left in reversed(range(_START_ATTEMPTS)):
        try:
            ray.init(
                address=address or "local",
                num_cpus=None if address else num_cpus,
                include_dashboard=False,
                log_to_driver=False,
            )
            return
        except Exception as error:  # Ray raises no type of its own here
            # Ray allows its own servers 30 s to start; a busy machine is slower.
            if attempts_left == 0 or "timed out during startup" not in str(error):
                raise
            ray.shutdown()


def parallel_map(function: Callable[..., Any], arguments: Iterable[tuple[Any, ...]], gpu: bool = False) -> list[Any]:
    """`[function(*a) for a in arguments]` as Ray tasks of one CPU each, and one GPU if asked. Results in order."""
    import ray

    task = ray.remote(num_cpus=1, num_gpus=1 if gpu else 0)(function)
    return ray.get([task.remote(*values) for values in arguments])

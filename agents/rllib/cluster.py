"""Starting and reaching Ray: quiet on purpose, on the loopback interface unless a cluster is named."""

import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from agents.configuration import ConfigError
from agents.presets import ClusterConfig

# Read by Ray's modules when they are imported, so set before. Each can be set otherwise from outside.
_QUIET = {
    "RAY_AUTH_MODE": "disabled",  # no auth token written into the user's home for a private, local Ray
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    # Errors of calls whose references were dropped: the algorithm drops those of env runners and learners it gave up.
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",
    # Ray gives its workers a low priority; on a machine with other load, training would crawl behind its own driver.
    "RAY_worker_niceness": "0",
    # Ray prints at error level that actors which it may restart have constructor arguments in the object store. The
    # driver holds these for as long as its env runners live.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "PYTHONWARNINGS": "ignore::DeprecationWarning",
}
# Ray's own switch between "this machine only" (every server binds 127.0.0.1) and clusters. By default Ray on Linux is
# made for clusters and listens on all interfaces. Read when Ray is imported.
_CLUSTERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
_START_ATTEMPTS = 5


def available_cpus() -> int:
    """CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_resources(cluster: ClusterConfig) -> None:
    """Raises `ConfigError` where Ray would wait for ever for CPUs or GPUs that this machine does not have."""
    if cluster.ray_address is not None:
        return
    cpus = cluster.num_cpus if cluster.num_cpus is not None else available_cpus()
    needed = cpus_needed(cluster)
    if needed > cpus:
        raise ConfigError(
            f"{cluster.num_env_runners} env runners and {cluster.num_learners} learners need {needed:g} CPUs, but "
            f"there are {cpus}: Ray would wait for ever. Use fewer (cluster.num_env_runners, cluster.num_learners), "
            "raise cluster.num_cpus, or name a cluster with cluster.ray_address."
        )
    gpus = torch.cuda.device_count()
    if gpus_needed(cluster) > gpus:
        raise ConfigError(
            f"cluster.gpus_per_learner={cluster.gpus_per_learner:g}, cluster.num_learners={cluster.num_learners}: "
            f"{gpus_needed(cluster):g} GPU(s) are needed, but PyTorch finds {gpus} on this machine: set "
            "--cluster.gpus-per-learner 0 to learn on the CPU, or name a cluster with --cluster.ray-address"
        )


def cpus_needed(cluster: ClusterConfig) -> float:
    """CPUs that env runners and learners ask Ray for."""
    return cluster.num_env_runners * cluster.cpus_per_env_runner + cluster.num_learners * cluster.cpus_per_learner


def gpus_needed(cluster: ClusterConfig) -> float:
    """GPUs that learners ask for; without remote learners the driver learns."""
    return cluster.gpus_per_learner * max(1, cluster.num_learners)


def quiet() -> None:
    """Sets what Ray reads from the environment when it is imported; see `_QUIET`."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)


def connect(cluster: ClusterConfig) -> None:
    """Connects to Ray, starting it on this machine unless `cluster.ray_address` names a running cluster.

    Raises `ConfigError` where Ray would have to be started, but was imported before in a way that makes it listen on
    all network interfaces.
    """
    check_resources(cluster)
    imported_before = "ray" in sys.modules
    quiet()
    if cluster.ray_address is None and not imported_before:
        os.environ.setdefault(_CLUSTERS, "0")
    import ray

    if ray.is_initialized():
        check_connected(cluster)
        return
    if cluster.ray_address is None and imported_before and _CLUSTERS not in os.environ:
        raise ConfigError(
            f"Ray was imported before `connect` could set {_CLUSTERS}=0, so its servers would listen on all network "
            "interfaces: call agents.rllib.cluster.connect before importing ray, set that variable (1 allows it), or "
            "start Ray yourself with ray.init"
        )
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False, "configure_logging": True}
    if cluster.ray_address is None:
        options |= {"num_cpus": cluster.num_cpus or available_cpus(), "include_dashboard": False}
    try:
        with _without_log_level_note():
            _start(address=cluster.ray_address or "local", **options)
    except ConnectionError as error:
        raise ConfigError(f"no Ray cluster answers at cluster.ray_address={cluster.ray_address!r}: {error}") from error
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)
    check_connected(cluster)


def _start(**options: Any) -> None:
    """`ray.init`, tried again where Ray's own servers need more than the 30 s that it allows them."""
    import ray

    for attempts_left in reversed(range(_START_ATTEMPTS)):
        try:
            ray.init(**options)
        except Exception as error:  # Ray raises no type of its own here
            if attempts_left == 0 or "timed out during startup" not in str(error):
                raise
            ray.shutdown()
        else:
            return


@contextmanager
def _without_log_level_note() -> Iterator[None]:
    """Leaves out the one line by which Ray's C++ side notes on stderr that it has read RAY_BACKEND_LOG_LEVEL.

    It is written before that level holds, so no level silences it. All other lines pass, at the end.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            written.seek(0)
            for line in written:
                if b"RAY_BACKEND_LOG_LEVEL" not in line:
                    os.write(2, line)


def check_connected(cluster: ClusterConfig) -> None:
    """Raises `ConfigError` if the connected Ray has fewer CPUs or GPUs than the run needs."""
    import ray

    total = ray.cluster_resources()
    cpus, gpus = cpus_needed(cluster), gpus_needed(cluster)
    for kind, needed in (("CPU", cpus), ("GPU", gpus)):
        if needed > total.get(kind, 0):
            raise ConfigError(
                f"{cluster.num_env_runners} env runners and {cluster.num_learners} learners need {needed:g} {kind}s, "
                f"the Ray cluster has {total.get(kind, 0):g}"
            )


def total_cpus() -> int:
    """CPUs of the connected Ray."""
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def disconnect() -> None:
    """Leaves Ray, and stops it if `connect` started it."""
    import ray

    ray.shutdown()


def parallel_map(function: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]) -> list[Any]:
    """`[function(*a) for a in arguments]`, as Ray tasks of one CPU each. Results in order."""
    import ray

    task = ray.remote(num_cpus=1, max_retries=2)(function)
    return ray.get([task.remote(*values) for values in arguments])


def share(value: Any) -> Any:
    """A reference to `value` for the arguments of `parallel_map`, so that it is stored once."""
    import ray

    return ray.put(value)

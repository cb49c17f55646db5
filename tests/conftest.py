"""Settings shared by every test: fixed thread counts, and no verdict that depends on how busy the machine is."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.patience import PATIENCE

torch.set_num_threads(1)
# Examples may take as long as they take. What fails is printed with what reproduces it.
settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("project")
# Before anything imports Ray: its servers listen on the loopback interface only.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
# Ray's workers compete with the tests of the other process: at Ray's own, low priority they would start in minutes.
os.environ.setdefault("RAY_worker_niceness", "0")
# Ray gives its processes a minute or less to start and to answer.
for limit in ("worker_register_timeout_seconds", "gcs_server_port_wait_time_s", "raylet_start_wait_time_s"):
    os.environ.setdefault(f"RAY_{limit}", f"{PATIENCE:.0f}")
for limit in ("gcs_server_request_timeout_seconds", "gcs_rpc_server_connect_timeout_s"):
    os.environ.setdefault(f"RAY_{limit}", f"{PATIENCE:.0f}")
for limit in ("health_check_timeout_ms", "agent_register_timeout_ms"):
    os.environ.setdefault(f"RAY_{limit}", f"{1000 * PATIENCE:.0f}")


@pytest.fixture(autouse=True)
def one_torch_thread() -> Iterator[None]:
    """Evaluation and learners set the threads of their process, which may be the tests' own.

    Two threads that find one core free wait for each other busily: a test took forty times its time in the other's.
    """
    yield
    torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Before test processes start on the whole suite, what they share is compiled, once."""
    config = session.config
    starts_processes = bool(getattr(config.option, "numprocesses", 0)) and not hasattr(config, "workerinput")
    if starts_processes and config.args_source is pytest.Config.ArgsSource.TESTPATHS and not config.option.collectonly:
        subprocess.run([sys.executable, "-m", "tests.kernels"], cwd=config.rootpath, check=True)

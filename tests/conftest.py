"""Settings shared by every test: fixed thread counts, so that two test processes share two cores."""

import os

import torch

torch.set_num_threads(1)
# Before anything imports Ray: its servers listen on the loopback interface only.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
# Ray's workers compete with the tests of the other process: at Ray's own, low priority they would start in minutes.
os.environ.setdefault("RAY_worker_niceness", "0")

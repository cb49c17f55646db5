"""Settings shared by every test: fixed thread counts, so that two test processes share two cores."""

import torch

torch.set_num_threads(1)

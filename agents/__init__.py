"""Entity-encoder agents: networks, losses, distributed training on Ray, evaluation."""

from perceiver_agents import require

# Ray is asked for where it is talked to (`agents.rllib`): networks, losses and worlds work without it.
require("agents", "gymnasium", "numba", "pyarrow", "rich", "tensorboard", "matplotlib", "tyro")

"""Training on Ray: everything that talks to RLlib."""

from perceiver_agents import require

require("agents", "ray", "tree")

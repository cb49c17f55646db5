"""Training on Ray: everything that talks to RLlib."""

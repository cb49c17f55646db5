"""The Perceiver IO core: a domain-agnostic model in torch (Jaegle et al. 2021, arXiv:2107.14795)."""

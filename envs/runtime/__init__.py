"""How a step is made fast: phases over many worlds, threads, compiled code on disk."""

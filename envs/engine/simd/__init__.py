"""Sixteen units at a time: the vector operations that the engine's kernels are made of."""

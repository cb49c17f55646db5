"""The battle engine: state (structures of arrays), and the kernels that advance it."""

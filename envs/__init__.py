"""StarCraft II worlds behind Gymnasium: the embedded simulator, the PySC2 adapter and the SC2 API server."""

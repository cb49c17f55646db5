"""The run folder: checkpoints, progress, report."""

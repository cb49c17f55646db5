"""Every speed figure that the project quotes, as ratios of two things timed in one run."""

"""The losses, one a file, and how their weights change."""

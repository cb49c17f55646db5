"""Small complete programs on top of the packages."""

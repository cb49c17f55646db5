"""Gathering, building and training: the rules of the economy."""

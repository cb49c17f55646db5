"""Opponents for self-play: the league and its matchmaking."""

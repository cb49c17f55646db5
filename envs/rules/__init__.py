"""What happens around a battle: starts, opponents, mini-games."""

"""How well an agent plays: battles on seeds of their own, their statistics, the report."""

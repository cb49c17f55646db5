"""How long tests wait for what must come: long enough for a machine with other work, so that only what hangs fails."""

PATIENCE = 900.0  # seconds

"""The real game, or the protocol server, through PySC2: client, environment, calibration."""

from perceiver_agents import require

require("pysc2", "pysc2_evolved", "websocket")

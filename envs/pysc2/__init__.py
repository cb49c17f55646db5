"""The real game, or the protocol server, through PySC2: client, environment, calibration."""

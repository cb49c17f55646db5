"""The networks: encoders, action heads, distributions."""

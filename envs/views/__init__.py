"""What may be ordered and what is seen: commands and masks, observations, SMAC's numbering."""

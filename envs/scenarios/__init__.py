"""What is fought: scenario files, unit data, SMAC's numbers, and the tables that kernels read."""

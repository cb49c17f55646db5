"""Labelled text: embedded tasks, GLUE, tables; metrics; classical baselines."""

"""Playing worlds with an agent or a scripted policy, and recording it."""

"""Training: the loop, its schedule, its checkpoints."""

"""What every modality's training shares: run folders, the loop, optimizers, Ray Train, errors."""

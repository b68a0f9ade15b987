"""Data, loss, the training loop, checkpoints, metrics and runs."""

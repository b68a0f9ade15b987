"""Floor 7: data, loss, the training loop, checkpoints and metrics."""

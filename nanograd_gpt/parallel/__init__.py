"""Data-parallel training: several processes, the ranks, take their rows of each batch and hold the same parameters."""

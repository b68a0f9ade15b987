"""Measuring: statistics of noisy samples, this machine's limits, a train step and a generation, and a profile."""

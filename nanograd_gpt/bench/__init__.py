"""Benchmarking: timing statistics, this machine's peak rates, train steps and generation, and a profiler."""

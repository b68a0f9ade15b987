"""Kernels: arrays in, arrays out; no graph."""

"""Kernels on arrays, independent of the graph."""

"""The operations, each once, forward beside backward, on arrays."""

"""Floor 3: the operations, each once, forward beside backward, on arrays."""

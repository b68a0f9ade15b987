"""The operations: forward and backward of each, on arrays."""

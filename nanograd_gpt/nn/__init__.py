"""Functions and modules that networks are made of."""

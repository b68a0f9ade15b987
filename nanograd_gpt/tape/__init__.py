"""Looking inside a model: what a forward and a backward pass held, and how long each operation took."""

"""Text generation: sampling, beam search, streaming, and a model's predictions at every position of a text."""

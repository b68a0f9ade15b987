"""Text from a model: sampling, beam search, text as it is written, and what the model expected at each place."""

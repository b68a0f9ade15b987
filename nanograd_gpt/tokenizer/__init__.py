"""Text to token ids and back: GPT-2's byte-pair encoding, Hugging Face's files, one learned from a text."""

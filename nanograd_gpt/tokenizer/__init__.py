"""Tokenizers: GPT-2's byte-pair encoding, Hugging Face's files, and tokenizers learned from a text."""

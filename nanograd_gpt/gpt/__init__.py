"""Floor 6: the GPT of the book, its tokenizers, and text from it."""

"""The GPT of the book's chapter 4: configuration, model, and key-value cache."""

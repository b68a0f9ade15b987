"""The GPT of the book's chapter 4: its configuration, the model, its cache of keys and values."""

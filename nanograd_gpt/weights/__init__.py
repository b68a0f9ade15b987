"""Weights in and out: Hugging Face's and OpenAI's layouts of GPT-2, and our own."""

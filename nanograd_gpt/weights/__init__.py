"""Loading and saving weights: Hugging Face's and OpenAI's layouts of GPT-2, and the package's own."""

"""A small GPT with dropout in each place, and with lengths that the kernels do not divide evenly."""

CONFIG = {
    "vocab_size": 31,
    "context_length": 12,
    "emb_dim": 20,
    "n_heads": 4,
    "n_layers": 2,
    "drop_rate": 0.4,
    "qkv_bias": True,
}

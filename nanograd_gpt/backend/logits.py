"""The memory for the head's logits on a GPU, which the kernels keep to and estimates count with."""

# Logits in memory at once.  The first chunk's stay until backward, as their gradient; those of later chunks are
# computed again, a third more work for them.  In float32, GPT-2's logits of 20 x 1024 tokens are one chunk, of
# 32 x 1024 two; in bf16, those of 41 x 1024 are one.
GPU_LOGITS_BYTES = 4 << 30

"""Texts whose ids are stored for several tokenizers."""

TEXTS = [
    "Every effort moves you",
    "<s>My grandmother said: 'tis 1899!\n\n\t And  then...</s>",
    "a</s><pad></s >",
    "I'll they've he'd it's DON'T",
    "   \n \n\n x \u00e9\u00df \u6f22\u5b57 \U0001f414\u200d\U0001f680 \x00\x7f\u00a0\u3000",
    "aaaaaaa theeee the the the  ",
    "<|endoftext|>",
    "",
]

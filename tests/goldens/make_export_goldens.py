"""Write an own BPE as save_pretrained does, and how transformers encode texts with these files, for tests without them.

    cd tests && python -m goldens.make_export_goldens

Each tests/goldens/exported_NAME/ holds the files, and encoded.json: pairs of a text and its ids by AutoTokenizer.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import tiktoken
from goldens.tokenizer_texts import TEXTS

from nanograd_gpt.gpt.config import GPTConfig
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.rng import Generator
from nanograd_gpt.tokenizer.encoding import Tokenizer
from nanograd_gpt.tokenizer.tokenizer import train_tokenizer
from nanograd_gpt.weights.save import save_pretrained

HERE = Path(__file__).parent
LEARNED_FROM = "the old miller's house; the river, the mill and the wind.  " * 2
SPECIAL = {"<pad>": 280, "</s>": 283}
PADDING = 4  # ids above the tokenizer's


def cases() -> dict[str, tiktoken.Encoding]:
    """The tokenizers by name: as `train` learns one, and one with gaps between its ids and another end of text."""
    own = train_tokenizer(LEARNED_FROM, 20)
    parts = {"pat_str": own._pat_str, "mergeable_ranks": own._mergeable_ranks}
    return {"own": own, "special": Tokenizer("special", eot_token=283, special_tokens=SPECIAL, **parts)}


def exported(directory: Path, tokenizer: tiktoken.Encoding) -> Path:
    """Write a very small model with the tokenizer."""
    config = GPTConfig(tokenizer.n_vocab + PADDING, context_length=64, emb_dim=4, n_heads=1, n_layers=1)
    return save_pretrained(directory, GPTModel(config, rng=Generator(123)), tokenizer)


def write() -> None:
    from transformers import AutoTokenizer

    for name, tokenizer in cases().items():
        folder = HERE / f"exported_{name}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        with TemporaryDirectory() as work:
            directory = exported(Path(work) / "out", tokenizer)
            (directory / "model.safetensors").unlink()
            for file in directory.iterdir():
                shutil.copy(file, folder)
        theirs = AutoTokenizer.from_pretrained(folder)
        encoded = [(text, theirs(text).input_ids) for text in TEXTS]
        (folder / "encoded.json").write_text(json.dumps(encoded) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()

"""Write byte-level BPEs as Hugging Face's tokenizers learn and store them, and how transformers encode texts with them.

    cd tests && python -m goldens.make_tokenizer_goldens

tests/goldens/tokenizer_json/ holds tokenizer.json, tokenizer_vocab/ the same as vocab.json, merges.txt and
special_tokens_map.json; each also encoded.json: pairs of a text and its ids.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

from goldens.tokenizer_texts import TEXTS
from tokenizers import ByteLevelBPETokenizer
from transformers import GPT2Tokenizer, PreTrainedTokenizerFast

HERE = Path(__file__).parent
SPECIAL = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>"}
N_VOCAB = 256 + len(SPECIAL) + 90


def write() -> None:
    story = (resources.files("nanograd_gpt") / "assets" / "story.txt").read_text(encoding="utf-8")
    learned = ByteLevelBPETokenizer()
    learned.train_from_iterator([story], vocab_size=N_VOCAB, special_tokens=list(SPECIAL.values()), show_progress=False)
    whole, parts = HERE / "tokenizer_json", HERE / "tokenizer_vocab"
    for folder in (whole, parts):
        folder.mkdir(exist_ok=True)
    learned.save(str(whole / "tokenizer.json"))
    learned.save_model(str(parts))
    (parts / "special_tokens_map.json").write_text(json.dumps(SPECIAL), encoding="utf-8")
    write_encoded(whole, PreTrainedTokenizerFast(tokenizer_file=str(whole / "tokenizer.json")))
    vocab = json.loads((parts / "vocab.json").read_text(encoding="utf-8"))
    lines = (parts / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]
    write_encoded(parts, GPT2Tokenizer(vocab, [tuple(line.split(" ")) for line in lines], unk_token="<s>", **SPECIAL))


def write_encoded(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    encoded = [(text, tokenizer(text, add_special_tokens=False).input_ids) for text in TEXTS]
    (folder / "encoded.json").write_text(json.dumps(encoded, indent=1), encoding="utf-8")


if __name__ == "__main__":
    write()

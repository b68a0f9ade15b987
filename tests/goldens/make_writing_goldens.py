"""Write what transformers' generate says with small random GPT-2s, greedily and by beam search, for tests without it.

    cd tests && python -m goldens.make_writing_goldens

Each tests/goldens/writing_NAME/ holds model.safetensors and config.json as GPT2LMHeadModel.save_pretrained writes them,
and written.npz: the prompt (1, T); `greedy` (1, T + 100) and `penalized`, the same with a repetition penalty of 1.3;
and for each search the texts, padded with -1, and their scores.  Weights are multiples of 2^-8, as in make_goldens.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from goldens.make_goldens import numbers
from goldens.make_pretrained_goldens import model_of

HERE = Path(__file__).parent
CASES = {"tied": (31, 112, 12, 3, 2, True), "apart": (23, 112, 8, 2, 3, False)}
SEARCHES = {"plain": (4, 1.0, False), "ending": (4, 1.0, True), "short": (3, 0.0, True), "long": (3, 2.0, True)}
NEW, T = 100, 6


def write(name: str) -> None:
    sizes = CASES[name]
    model, folder = model_of(sizes), HERE / f"writing_{name}"
    with torch.no_grad():
        for p in model.transformer.h.parameters():
            p.mul_(4)  # so that its text does not run into one token; exact
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    model.double()
    prompt = torch.from_numpy((numbers(T, stream=1001) % np.uint64(sizes[0])).astype(np.int64))[None]
    facts: dict[str, Any] = {"prompt": prompt.numpy()}
    facts["greedy"] = written(model, prompt, eos_token_id=None).sequences.numpy()
    facts["penalized"] = written(model, prompt, eos_token_id=None, repetition_penalty=1.3).sequences.numpy()
    facts["eos"] = eos = int(np.bincount(facts["greedy"][0, T:]).argmax())
    for search, (n, penalty, ends) in SEARCHES.items():
        found = written(
            model, prompt, num_beams=n, num_return_sequences=n, length_penalty=penalty, early_stopping="never",
            eos_token_id=eos if ends else None,
        )  # fmt: skip
        facts[f"{search} texts"], facts[f"{search} scores"] = found.sequences.numpy(), found.sequences_scores.numpy()
        facts[f"{search} settings"] = np.array([n, penalty, ends])
    np.savez_compressed(folder / "written.npz", **facts)


def written(model: Any, prompt: Any, **settings: Any) -> Any:
    return model.generate(
        prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=NEW, pad_token_id=-1,
        return_dict_in_generate=True, output_scores=True, **settings,
    )  # fmt: skip


if __name__ == "__main__":
    for name in CASES:
        write(name)

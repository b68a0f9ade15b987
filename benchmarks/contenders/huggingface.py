"""Hugging Face's GPT-2 with its key-value cache: generation only."""

from __future__ import annotations

from typing import Any

import torch
from protocol import Clock, serve
from pytorch import PyTorch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel


class HuggingFace(PyTorch):
    packages = ("torch", "transformers")

    def new_model(self, config: dict[str, Any]) -> GPT2LMHeadModel:
        return GPT2LMHeadModel(
            GPT2Config(
                vocab_size=config["vocab_size"],
                n_positions=config["context_length"],
                n_embd=config["emb_dim"],
                n_layer=config["n_layers"],
                n_head=config["n_heads"],
                activation_function="gelu_new",  # the tanh form
                tie_word_embeddings=False,
                bos_token_id=None,
                eos_token_id=None,  # else a text might end early
            )
        ).eval()

    def new_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.model.parameters())  # allocates nothing before its first step

    def load(self, weights: dict[str, Tensor]) -> None:
        self.model.load_state_dict(renamed(weights, self.config["n_layers"]))

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(self.model(ids).logits.flatten(0, 1), targets.flatten())

    @torch.no_grad()
    def logits(self, ids: list[int]) -> dict[str, list[float]]:
        return {"logits": self.model(torch.tensor([ids])).logits[0, -1].tolist()}

    def generate(self, ids: list[int], n: int, rows: int = 1) -> dict[str, Any]:
        clock = Clock()
        prompt = torch.tensor([ids] * rows)
        text = self.model.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=n, do_sample=False, use_cache=True
        )
        clock.lap()
        return {"ids": text[0].tolist(), **clock.seconds("all")}


def renamed(book: dict[str, Tensor], n_layers: int) -> dict[str, Tensor]:
    """The book's weights under GPT-2's names; its Conv1D layers hold the transposed matrix."""
    theirs = {
        "transformer.wte.weight": book["tok_emb.weight"],
        "transformer.wpe.weight": book["pos_emb.weight"],
        "transformer.ln_f.weight": book["final_norm.scale"],
        "transformer.ln_f.bias": book["final_norm.shift"],
        "lm_head.weight": book["out_head.weight"],
    }
    for i in range(n_layers):
        b, t = f"trf_blocks.{i}.", f"transformer.h.{i}."
        qkv = torch.cat([book[f"{b}att.W_{part}.weight"] for part in ("query", "key", "value")])
        theirs[f"{t}attn.c_attn.weight"] = qkv.T
        theirs[f"{t}attn.c_attn.bias"] = torch.zeros(len(qkv))
        for ours, name in (("att.out_proj", "attn.c_proj"), ("ff.layers.0", "mlp.c_fc"), ("ff.layers.2", "mlp.c_proj")):
            theirs[f"{t}{name}.weight"], theirs[f"{t}{name}.bias"] = (
                book[f"{b}{ours}.weight"].T,
                book[f"{b}{ours}.bias"],
            )
        for ours, name in (("norm1", "ln_1"), ("norm2", "ln_2")):
            theirs[f"{t}{name}.weight"], theirs[f"{t}{name}.bias"] = book[f"{b}{ours}.scale"], book[f"{b}{ours}.shift"]
    return theirs


if __name__ == "__main__":
    serve(HuggingFace())

"""The fastest eager PyTorch known: fused attention, GELU, LayerNorm and AdamW; Q, K and V as one product."""

from __future__ import annotations

from typing import Any

import torch
from protocol import serve
from pytorch import PyTorch
from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, cfg: dict[str, Any]) -> None:
        super().__init__()
        C, self.n_heads, self.rate = cfg["emb_dim"], cfg["n_heads"], cfg["drop_rate"]
        self.norm1, self.norm2 = nn.LayerNorm(C), nn.LayerNorm(C)
        self.qkv, self.project = nn.Linear(C, 3 * C, bias=cfg["qkv_bias"]), nn.Linear(C, C)
        self.widen, self.narrow = nn.Linear(C, 4 * C), nn.Linear(4 * C, C)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropped(self.project(self.attention(self.qkv(self.norm1(x)))))
        return x + self.dropped(self.narrow(F.gelu(self.widen(self.norm2(x)), approximate="tanh")))

    def attention(self, qkv: Tensor) -> Tensor:
        B, T, C3 = qkv.shape
        q, k, v = qkv.view(B, T, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)  # each (B, H, T, D)
        rate = self.rate if self.training else 0.0
        context = F.scaled_dot_product_attention(q, k, v, dropout_p=rate, is_causal=True)
        return context.transpose(1, 2).reshape(B, T, C3 // 3)

    def dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.rate, self.training)


class GPT(nn.Module):
    def __init__(self, cfg: dict[str, Any]) -> None:
        super().__init__()
        C, self.rate = cfg["emb_dim"], cfg["drop_rate"]
        self.tokens, self.positions = nn.Embedding(cfg["vocab_size"], C), nn.Embedding(cfg["context_length"], C)
        self.blocks = nn.ModuleList([Block(cfg) for _ in range(cfg["n_layers"])])
        self.norm, self.head = nn.LayerNorm(C), nn.Linear(C, cfg["vocab_size"], bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.positions.weight[: ids.shape[1]]
        x = F.dropout(x, self.rate, self.training)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(self(ids).flatten(0, 1), targets.flatten())


class Best(PyTorch):
    def new_model(self, config: dict[str, Any]) -> GPT:
        return GPT(config)

    def new_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.model.parameters(), lr=4e-4, weight_decay=0.1, fused=True)

    def load(self, weights: dict[str, Tensor]) -> None:
        self.model.load_state_dict(renamed(weights, self.config["n_layers"]))

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        return self.model.loss(ids, targets)


def renamed(book: dict[str, Tensor], n_layers: int) -> dict[str, Tensor]:
    """The book's weights under the names of GPT above."""
    ours = {
        "tokens.weight": book["tok_emb.weight"],
        "positions.weight": book["pos_emb.weight"],
        "norm.weight": book["final_norm.scale"],
        "norm.bias": book["final_norm.shift"],
        "head.weight": book["out_head.weight"],
    }
    for i in range(n_layers):
        b, o = f"trf_blocks.{i}.", f"blocks.{i}."
        for kind in ("weight", "bias"):
            parts = [book.get(f"{b}att.W_{part}.{kind}") for part in ("query", "key", "value")]
            if parts[0] is not None:
                ours[f"{o}qkv.{kind}"] = torch.cat(parts)
            ours[f"{o}project.{kind}"] = book[f"{b}att.out_proj.{kind}"]
            ours[f"{o}widen.{kind}"] = book[f"{b}ff.layers.0.{kind}"]
            ours[f"{o}narrow.{kind}"] = book[f"{b}ff.layers.2.{kind}"]
        for norm in ("norm1", "norm2"):
            ours[f"{o}{norm}.weight"], ours[f"{o}{norm}.bias"] = book[f"{b}{norm}.scale"], book[f"{b}{norm}.shift"]
    return ours


if __name__ == "__main__":
    serve(Best())

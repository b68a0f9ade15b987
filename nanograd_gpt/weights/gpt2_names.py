"""Names of GPT-2's weights in other layouts: one table for loading and saving."""

from __future__ import annotations

import re
from typing import NamedTuple

from ..gpt.config import GPTConfig


class WeightMapping(NamedTuple):
    """A parameter of GPTModel, and its place in a file."""

    name: str
    gpt2_name: str
    transposed: bool = False  # stored (in, out), as in OpenAI's Conv1D; Linear has (out, in)
    qkv_index: int | None = None  # which third of c_attn's last axis: query, key, value


class Layout(NamedTuple):
    """A layout's names of the arrays that determine a model's sizes, and the prefix of its blocks."""

    tokens: str
    positions: str
    block: str
    head: str


# Hugging Face's names, without the "transformer." that a whole model's file puts before them
EMBEDDINGS = [WeightMapping("tok_emb.weight", "wte.weight"), WeightMapping("pos_emb.weight", "wpe.weight")]
BLOCK = [
    *(
        WeightMapping(f"att.W_{name}.{kind}", f"attn.c_attn.{kind}", kind == "weight", qkv_index)
        for qkv_index, name in enumerate(("query", "key", "value"))
        for kind in ("weight", "bias")
    ),
    WeightMapping("att.out_proj.weight", "attn.c_proj.weight", transposed=True),
    WeightMapping("att.out_proj.bias", "attn.c_proj.bias"),
    WeightMapping("ff.layers.0.weight", "mlp.c_fc.weight", transposed=True),
    WeightMapping("ff.layers.0.bias", "mlp.c_fc.bias"),
    WeightMapping("ff.layers.2.weight", "mlp.c_proj.weight", transposed=True),
    WeightMapping("ff.layers.2.bias", "mlp.c_proj.bias"),
    WeightMapping("norm1.scale", "ln_1.weight"),
    WeightMapping("norm1.shift", "ln_1.bias"),
    WeightMapping("norm2.scale", "ln_2.weight"),
    WeightMapping("norm2.shift", "ln_2.bias"),
]
FINAL_NORM = [WeightMapping("final_norm.scale", "ln_f.weight"), WeightMapping("final_norm.shift", "ln_f.bias")]
HEAD = WeightMapping("out_head.weight", "lm_head.weight")

NATIVE = Layout("tok_emb.weight", "pos_emb.weight", "trf_blocks.", HEAD.name)
HUGGING_FACE = Layout("wte.weight", "wpe.weight", "h.", HEAD.gpt2_name)
PREFIX = "transformer."
BUFFERS = re.compile(r".*\.(attn\.bias|attn\.masked_bias|att\.mask)")  # causal masks in old files, not parameters

_OPENAI_ENDINGS = {"w": "weight", "g": "weight", "b": "bias", "wte": "wte.weight", "wpe": "wpe.weight"}


def gpt2_mappings(config: GPTConfig) -> list[WeightMapping]:
    """List the mappings of all parameters of a model with qkv_bias to Hugging Face's names."""
    blocks = [
        part._replace(name=f"trf_blocks.{i}.{part.name}", gpt2_name=f"h.{i}.{part.gpt2_name}")
        for i in range(config.n_layers)
        for part in BLOCK
    ]
    return [*EMBEDDINGS, *blocks, *FINAL_NORM, *([] if config.tied_head else [HEAD])]


def from_openai(name: str) -> str:
    """Translate OpenAI's name to Hugging Face's: model/h0/attn/c_attn/w is h.0.attn.c_attn.weight."""
    *path, last = name.removeprefix("model/").split("/")
    path = [re.sub(r"^h(\d+)$", r"h.\1", step) for step in path]
    return ".".join([*path, _OPENAI_ENDINGS.get(last, last)])

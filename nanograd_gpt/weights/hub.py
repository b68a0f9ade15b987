"""GPT-2's weights from the Hugging Face hub."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..errors import InputError, did_you_mean
from ..gpt.config import GPT2_NAMES, PRESETS
from .cached_download import Remote, cached
from .safetensors_file import MAX_HEADER

REPOSITORIES = "https://huggingface.co/openai-community"
CONTEXT_LENGTH = 1024  # of GPT-2; the presets have the book's


def _weights(preset: str, commit: str, sha256: str) -> Remote:
    """A preset's weights at a commit: float32, with or without each layer's causal mask (T, T), behind a header."""
    shape = replace(PRESETS[preset], context_length=CONTEXT_LENGTH, qkv_bias=True, tied_head=True)
    least = 4 * shape.n_parameters
    most = least + 4 * shape.n_layers * CONTEXT_LENGTH**2 + MAX_HEADER
    return Remote(f"{REPOSITORIES}/{GPT2_NAMES[preset][0]}/resolve/{commit}/model.safetensors", sha256, least, most)


GPT2 = {  # by their names on the hub
    "gpt2": _weights(
        "gpt2-124m",
        "607a30d783dfa663caf39e06633721c8d4cfcd7e",
        "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707",
    ),
    "gpt2-medium": _weights(
        "gpt2-355m",
        "6dcaa7a952f72f9298047fd5137cd6e4f05f41da",
        "fc5a354a19255ad494f3d71549390baca1ccf61d1d822b9408971705c687c9cd",
    ),
    "gpt2-large": _weights(
        "gpt2-774m",
        "32b71b12589c2f8d625668d2335a01cac3249519",
        "5f47f3e12f91cd33b662ce7e433b6150ad5512b5884a2cee961b50e9c3bbebce",
    ),
    "gpt2-xl": _weights(
        "gpt2-1558m",
        "15ea56dee5df4983c59b2538573817e1667135e2",
        "0f8b28eb05a8075f48b61b6f35332978c74fc7763fa9fb4051a1c30511736a6a",
    ),
}


def is_gpt2_name(name: str) -> bool:
    """Tell whether a name is one of GPT-2's, which download_gpt2 takes."""
    return name.lower() in _known_names()


def _known_names() -> dict[str, str]:
    """Every name of GPT-2's weights, with the one on the hub."""
    return {name: others[0] for preset, others in GPT2_NAMES.items() for name in (*others, preset)}


def download_gpt2(name: str = "gpt2") -> Path:
    """Download GPT-2's weights to the user's cache, unless they are there; returns the file, for load_pretrained.

    name                "gpt2" (or "gpt2-small", "gpt2-124m"), "gpt2-medium" ("gpt2-355m"), "gpt2-large" ("gpt2-774m")
                        or "gpt2-xl" ("gpt2-1558m") ["gpt2"]

    The file is verified by its SHA-256 at every use; a damaged one is deleted, with a warning, and downloaded again.
    Raises InputError for another name, and RunError if the download fails, with the URL.
    """
    names = _known_names()
    if not is_gpt2_name(name):
        raise InputError(f"model: {name!r} is not one of GPT-2's names{did_you_mean(name.lower(), list(names))}")
    name = names[name.lower()]
    return cached(GPT2[name], f"{name}.safetensors", f"model: {name}", "--weights")

"""Option names of nanoGPT, litgpt, Hugging Face and argparse habits, and what they are called here."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches
from re import findall
from typing import NamedTuple

from ..errors import CLOSE
from ..training.synonyms import SYNONYMS as SETTINGS


def _option(name: str) -> str:
    return "--" + name.lower().lstrip("-").replace("_", "-")


# The same setting under another name: accepted, with a note.
SYNONYMS = {
    **{_option(name): _option(own) for name, own in SETTINGS.items()},
    "--num-threads": "--threads",
    "--n-threads": "--threads",
    "--out-dir": "--out",
    "--output": "--out",
    "--output-dir": "--out",
    "--output-file": "--out",
    "--resume-from": "--resume",
    "--resume-from-checkpoint": "--resume",
    "--model-path": "--model",
    "--model-name": "--model",
    "--model-name-or-path": "--model",
    "--checkpoint": "--model",
    "--checkpoint-dir": "--model",
    "--ckpt": "--model",
    "--temp": "--temperature",
    "--max-tokens": "--max-new-tokens",
    "--num-tokens": "--max-new-tokens",
    "--n-tokens": "--max-new-tokens",
    "--topk": "--top-k",
    "--topp": "--top-p",
    "--minp": "--min-p",
    "--rep-penalty": "--repetition-penalty",
    "--num-beams": "--beams",
    "--beam-size": "--beams",
    "--num-return-sequences": "--num-samples",
    "--n-samples": "--num-samples",
    "--start": "--prompt",
    "--text": "--prompt",
    "--stop-string": "--stop",
    "--stop-strings": "--stop",
    "--chat": "--interactive",
}

# Near, but not the same setting: named in the error.
NEAR = {
    "--bias": "see --qkv-bias; every layer but query, key and value has a bias",
    "--optimizer": "AdamW is the only optimizer; see --lr, --weight-decay and --decay",
    "--dtype": "parameters are float32; see --precision for products on a GPU",
    "--log-interval": "every update is logged, in metrics.jsonl; see --eval-freq",
    "--compile": "nothing needs compiling",
    "--gpu": "use --device cuda",
    "--cuda": "use --device cuda",
    "--gpus": "use --device cuda, which takes one GPU",
    "--cpu": "use --device cpu",
    "--steps": "use --max-steps, in updates, or --epochs",
    "--iters": "use --max-steps, in updates",
    "--length": "use --max-new-tokens",
    "--max-length": "use --max-new-tokens, which does not count the prompt",
    "--do-sample": "sampling is on where --temperature is above 0",
    "--greedy": "greedy is the default, --temperature 0",
    "--config-file": "use --config",
    "--pretrained": "use --init-from gpt2",
    "--from-pretrained": "use --init-from gpt2",
}


class Translated(NamedTuple):
    """Arguments with our option names, and a note for each one that was renamed."""

    argv: list[str]
    notes: list[str]


def translate(argv: list[str], known: Collection[str]) -> Translated:
    """Replace other projects' option names, and underscores, by the names that this command knows.

    argv: a command's arguments; known: its options, such as "--lr".  What follows a bare "--" is left alone.
    """
    translated, notes = list[str](), list[str]()
    for i, argument in enumerate(argv):
        if argument == "--":
            return Translated(translated + argv[i:], notes)
        name, equals, value = argument.partition("=")
        own = SYNONYMS.get(_option(name), _option(name)) if name.startswith("--") else name
        if name not in known and own in known:
            notes.append(f"{name} is called {own} here")
            argument = own + equals + value
        translated.append(argument)
    return Translated(translated, notes)


def suggestion(option: str, known: Collection[str]) -> str:
    """The end of an error about an unknown option: what to use instead where that is likely, or nothing.

    A wrong guess is worse than none, so names are compared without the dashes, which all of them share.
    """
    name = _option(option.partition("=")[0])
    if name in NEAR and all(option in known for option in findall(r"--[a-z-]+", NEAR[name])):
        return f"; {NEAR[name]}"
    words = {word.lstrip("-"): word for word in known}
    words |= {word.lstrip("-"): own for word, own in SYNONYMS.items() if own in known}
    close = get_close_matches(name.lstrip("-"), list(words), n=1, cutoff=CLOSE)
    return f"; did you mean {words[close[0]]!r}?" if close else ""

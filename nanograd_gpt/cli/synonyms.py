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
    "--ckpt-dir": "--model",
    "--ckpt-path": "--model",
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

BETAS = "leave it out: AdamW's betas are 0.9 and 0.999; the library's AdamW(betas=...) takes others"

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
    "--beta1": BETAS,
    "--beta2": BETAS,
    "--adam-beta1": BETAS,
    "--adam-beta2": BETAS,
    "--fp16": "use --precision bf16, on a GPU",
    "--bf16": "use --precision bf16, on a GPU",
    "--warmup-ratio": "use --warmup-steps, in updates",
    "--logging-steps": "every update is logged, in metrics.jsonl; see --eval-freq",
    "--num-workers": "leave it out: batches are made in the training's own process",
    "--dataloader-num-workers": "leave it out: batches are made in the training's own process",
    "--force": "nothing is overwritten; give a new name with --out",
    "--overwrite": "nothing is overwritten; give a new name with --out",
    "--overwrite-output-dir": "nothing is overwritten; give a new name with --out",
    "--config-file": "use --config",
    "--pretrained": "use --init-from gpt2",
    "--from-pretrained": "use --init-from gpt2",
}


# An option of other commands that one command has not: named in its error.
ELSEWHERE = {
    "train": {
        **dict.fromkeys(
            ["--model", "--model-path", "--model-name", "--model-name-or-path", "--checkpoint", "--ckpt"],
            "use --init-from to start from weights, --preset for a size, or --resume for a run",
        ),
        "--temperature": "samples are greedy; see nanograd-gpt generate",
    },
    "generate": {"--data": "use --prompt-file"},
}

# Commands under other names.
COMMANDS = {
    "chat": "generate MODEL --interactive",
    "continue": "train --resume RUN",
    "eval": "evaluate",
    "explain": "explain-next",
    "export": "convert",
    "fine-tune": "train --init-from MODEL",
    "finetune": "train --init-from MODEL",
    "infer": "generate",
    "inference": "generate",
    "perplexity": "evaluate",
    "predict": "generate",
    "pretrain": "train",
    "resume": "train --resume RUN",
    "sample": "generate",
    "test": "evaluate MODEL --split test",
    "version": "--version",
    "-V": "--version",
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


def suggestion(option: str, known: Collection[str], command: str | None = None) -> str:
    """The end of an error about a command's unknown option: what to use instead where that is likely, or nothing.

    A wrong guess is worse than none, so names are compared without the dashes, which all of them share.
    """
    name = _option(option.partition("=")[0])
    if text := ELSEWHERE.get(command or "", {}).get(name):
        return f"; {text}"
    if name in NEAR and all(option in known for option in findall(r"--[a-z-]+", NEAR[name])):
        return f"; {NEAR[name]}"
    words = {word.lstrip("-"): word for word in known}
    words |= {word.lstrip("-"): own for word, own in SYNONYMS.items() if own in known}
    close = get_close_matches(name.lstrip("-"), list(words), n=1, cutoff=CLOSE)
    return f"; did you mean {words[close[0]]!r}?" if close else ""

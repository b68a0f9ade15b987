"""Write an HTML page of what a model computes for a prompt.

Each token's embedding, its way through the blocks, the attention of every head, the next token's distribution, and what
influenced it: one file, which a browser opens without a network.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from itertools import count
from pathlib import Path

from ..errors import InputError, counted
from ..explore.write_explorer import check_suffix, write_explorer
from ..files import check_named, writing_named
from ..tokenizer.tokenizer import text_to_token_ids
from .options import add_model, model_from, model_path, note, user_path
from .prompt import PROMPT, add_prompt, note_long_prompt, prompt_from

NAME = "explore"
LONG = 2_000_000_000  # parameters times tokens; more of them than this take longer than a few seconds


def add_arguments(parser: ArgumentParser) -> None:
    add_model(parser)
    add_prompt(parser, "text to explore")
    parser.add_argument(
        "--out",
        type=user_path,
        metavar="FILE",
        help=f"the page, NAME.html [{NAME}.html; {NAME}-2.html and so on if it exists]",
    )


def run(options: Namespace) -> int:
    out = _free(options.out)
    model, tokenizer, _, own_prompt = model_from(options)
    given = prompt_from(options)
    prompt = own_prompt or PROMPT if given is None else given
    ids, context = text_to_token_ids(prompt, tokenizer)[0], model.config.context_length
    note_long_prompt(ids, context)
    T = min(len(ids), context)
    if model.n_parameters * T > LONG:
        note(f"{counted(T, 'token')} take a backward pass each; a shorter prompt is ready sooner")
    with writing_named(out):
        write_explorer(out, model, prompt, tokenizer, str(model_path(options)))
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB; open it in a browser")
    return 0


def _free(out: Path | None) -> Path:
    """The page's path: a new one.  Raises InputError for one that exists already."""
    if out is None:
        names = (Path(f"{NAME}-{i}.html" if i > 1 else f"{NAME}.html") for i in count(1))
        return next(path for path in names if not path.exists())
    check_named(out, "out")
    check_suffix(out)
    if out.exists():
        raise InputError(f"explore: {out} exists already; give a new name")
    return out

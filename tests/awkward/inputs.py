"""Awkward inputs: command lines as a shell, a script or a slip of the hand may write them.

In a command line, {run}, {data}, {file}, {empty}, {new} and {long} are paths that the caller has made, or not, in the
last two; whatever has no meaning must be refused in one line, and the rest work.
"""

from __future__ import annotations

HUGE = "9" * 5000
ODD_NUMBERS = ["", " ", "nan", "-inf", "-1", "1e999", "0x10", "1_0", "\u0661\u0662", "1,5", "True", "9" * 30, HUGE]
ODD_TEXTS = [
    "",
    " ",
    "-",
    "--",
    "\u200b",
    "\x1b[2J",
    "%s%n",
    "{0}",
    "caf\udce9",
    "x\ny",
    "\U0001f600" * 50,
    "\t",
    "a" * 5000,
]
ODD_PATHS = [
    *(
        "",
        " ",
        ".",
        "/",
        "//",
        "~",
        "~nobody/x",
        "-",
        "caf\udce9",
        "a\nb",
        "\x1b[2J",
        "%s",
        "https://example.com/x",
        "/nonexistent/x",
    ),
    *("{long}", "{file}/x", "{file}", "{empty}", "{new}", "/dev/null", "/dev/full", "/proc/self/mem", "/proc/1/root"),
]
TRAIN = ["train", "--dry-run", "--data", "{data}", "--n-layers", "1", "--emb-dim", "16", "--n-heads", "2"]
TRAIN += ["--context-length", "16", "--n-merges", "20"]
NUMBERS = {
    "train": ["lr", "epochs", "emb-dim", "n-heads", "n-layers", "context-length", "batch-size", "seed", "drop-rate"],
    "generate": ["max-new-tokens", "temperature", "top-k", "top-p", "min-p", "repetition-penalty", "seed", "beams"],
    "explain-next": ["top"],
    "evaluate": ["stride", "batch-size"],
    "bench": ["seconds", "batch-size"],
    "info": ["vocab-size"],
}
NUMBERS["train"] += ["max-steps", "warmup-steps", "keep", "checkpoint-minutes", "threads", "accumulate", "stride"]
TEXTS = {
    "train": ["prompt", "schedule", "device", "precision", "preset", "graph", "random", "tokenizer", "on-nonfinite"],
    "generate": ["prompt", "stop", "device", "tokenizer"],
    "explain-next": ["prompt"],
}
PATHS = {
    "train": ["out", "data", "config", "init-from", "resume", "tokenizer"],
    "generate": ["prompt-file", "tokenizer"],
    "evaluate": ["data"],
    "bench": ["out"],
}
COMMANDS = {
    "train": TRAIN,
    "generate": ["generate", "{run}", "--max-new-tokens", "2"],
    "explain-next": ["explain-next", "{run}"],
    "evaluate": ["evaluate", "{run}"],
    "bench": ["bench", "--preset", "none"],  # refused at last, as a whole one takes long
    "info": ["info"],
}
WORDS = [  # whole command lines
    *(
        [],
        [""],
        [" "],
        ["-"],
        ["--"],
        ["--", "train"],
        ["\x00"],
        ["caf\udce9"],
        ["a" * 5000],
        ["help", ""],
        ["help", "--"],
    ),
    *([command, "--", "--lr"] for command in COMMANDS),
    *([command, "=", "x"] for command in COMMANDS),
    *([command, "--=3"] for command in COMMANDS),
    *([command, "---"] for command in COMMANDS),
    *([command, "-h", "x"] for command in COMMANDS),
    *([command, "@{file}"] for command in COMMANDS),
    *([command, "{run}", "{run}"] for command in ("generate", "evaluate", "explain-next", "info", "plot")),
    *([command, path] for command in ("generate", "info", "plot", "explain-next") for path in ODD_PATHS),
    *(
        ["convert", "{run}", path]
        for path in ODD_PATHS
        if path not in ("{new}", "-", "%s", "caf\udce9", "a\nb", "\x1b[2J")
    ),
    *(["gradcheck", name] for name in ODD_TEXTS),
    ["generate", "{run}", "--max-new-tokens", "0"],
    ["generate", "{run}", "--prompt", "a", "--prompt", "b", "--max-new-tokens", "1"],
    ["generate", "{run}", "--temperature", "1e-300", "--max-new-tokens", "1"],
    ["generate", "{run}", "--temperature", "1e300", "--max-new-tokens", "1"],
    ["generate", "{run}", "--prompt", "<|endoftext|>", "--max-new-tokens", "1"],
    ["generate", "{run}", "--interactive", "--prompt", ""],
]


def inputs() -> list[list[str]]:
    """All of them, in an order in which each kind comes often."""
    given = [*WORDS]
    for options, values in ((NUMBERS, ODD_NUMBERS), (TEXTS, ODD_TEXTS), (PATHS, ODD_PATHS)):
        for command, names in options.items():
            given += [[*COMMANDS[command], f"--{name}={value}"] for name in names for value in values]
    return [argv for argv in given if not works_long(argv)]


def works_long(argv: list[str]) -> bool:
    """Tell whether a command line is a sound one for a whole training, a benchmark or all checks."""
    return argv in (["gradcheck", "--"], ["bench", "--", "--lr"])


def filled(argv: list[str], paths: dict[str, str]) -> list[str]:
    """A command line with its paths."""
    for name, path in paths.items():
        argv = [word.replace(f"{{{name}}}", path) for word in argv]
    return argv

"""Awkward environments: variables, limits, streams, directories and interpreter options of a process."""

from __future__ import annotations

from dataclasses import dataclass, field

GENERATE = ("generate", "{run}", "--max-new-tokens", "2")
INFO = ("info",)
PLOT = ("plot", "{run}", "--out", "{new}")
TRAIN = ("train", "--data", "{data}", "--out", "{new}", "--max-steps", "2", "--n-layers", "1", "--emb-dim", "16")
TRAIN += ("--n-heads", "2", "--context-length", "16", "--n-merges", "20", "--warmup-steps", "0", "--batch-size", "2")
RESUME = ("train", "--resume", "{copy}", "--epochs", "3")


@dataclass(frozen=True)
class Environment:
    """The start of a command: its variables, streams, limits and interpreter."""

    name: str
    argv: tuple[str, ...]
    variables: dict[str, str | None] = field(default_factory=dict)  # None: unset
    shell: str = ""  # what a POSIX shell does before
    streams: str = ""  # its redirections
    python: tuple[str, ...] = ()  # options of the interpreter
    heard: bool = True  # whether stderr can be written and is read


def with_variables(variables: dict[str, str | None], *commands: tuple[str, ...]) -> list[Environment]:
    what = ", ".join(f"{name}={value}" for name, value in variables.items())
    return [Environment(f"{what}: {argv[0]}", argv, variables) for argv in commands]


def with_shell(shell: str, *commands: tuple[str, ...]) -> list[Environment]:
    return [Environment(f"{shell}: {argv[0]}", argv, shell=shell) for argv in commands]


def with_streams(streams: str, *commands: tuple[str, ...], heard: bool = True) -> list[Environment]:
    return [Environment(f"{argv[0]} {streams}", argv, streams=streams, heard=heard) for argv in commands]


def with_python(*options: str, commands: tuple[tuple[str, ...], ...] = (GENERATE, TRAIN)) -> list[Environment]:
    return [Environment(f"python {' '.join(options)}: {argv[0]}", argv, python=options) for argv in commands]


NONSENSE = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NANOGRAD_THREADS", "CUDA_VISIBLE_DEVICES"]
NONSENSE += ["MPLBACKEND", "TERM", "COLUMNS", "LINES", "LANG", "TZ", "XDG_CACHE_HOME", "MALLOC_ARENA_MAX"]
NONSENSE += ["NO_COLOR", "TQDM_MININTERVAL", "PYTHONHASHSEED", "PYTHONSTARTUP", "SOURCE_DATE_EPOCH"]
VALUES = {"PYTHONHASHSEED": "7", "LANG": "xx_YY.nonsense"}

ENVIRONMENTS = [
    *(e for name in NONSENSE for e in with_variables({name: VALUES.get(name, "nonsense")}, GENERATE)),
    *(e for name in ("MPLBACKEND", "SOURCE_DATE_EPOCH", "TERM") for e in with_variables({name: "nonsense"}, PLOT)),
    *(e for n in ("0", "-1", "", "1025", "9" * 400) for e in with_variables({"NANOGRAD_THREADS": n}, TRAIN)),
    *with_variables({"OMP_NUM_THREADS": "-1", "OPENBLAS_NUM_THREADS": "0"}, GENERATE),
    *with_variables({"OPENBLAS_NUM_THREADS": "1", "NANOGRAD_THREADS": "4"}, TRAIN),
    *with_variables({"HOME": None, "USER": None, "LOGNAME": None}, GENERATE, TRAIN, PLOT),
    *with_variables({"HOME": ""}, TRAIN),
    *with_variables({"HOME": "/dev/null"}, TRAIN, PLOT),
    *with_variables({"HOME": "/nonexistent"}, TRAIN, ("generate", "~/run")),
    *with_variables({"TMPDIR": "/nonexistent"}, TRAIN),
    *with_variables({"TMPDIR": "/dev/null", "HOME": "/dev/null"}, TRAIN, PLOT),
    *with_variables({"MPLCONFIGDIR": "/dev/null/x"}, TRAIN, PLOT),
    *with_variables({"PATH": ""}, TRAIN),
    *with_variables({"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, GENERATE, TRAIN, PLOT),
    *with_variables({"PYTHONIOENCODING": "ascii"}, GENERATE, TRAIN),
    *with_variables({"PYTHONIOENCODING": "utf-16"}, GENERATE),
    *with_variables({"PYTHONUTF8": "1"}, TRAIN),
    *with_variables({"TERM": None, "COLUMNS": "1"}, ("explain-next", "{run}"), ("train", "--help")),
    *with_variables({"COLUMNS": "0"}, ("train", "--help"), ("help",)),
    *with_variables({"COLUMNS": "9" * 30}, ("help",)),
    *with_variables({"TERM": "dumb"}, ("explain-next", "{run}")),
    *with_variables({"PYTHONWARNINGS": "error"}, GENERATE, TRAIN, PLOT, RESUME),
    *with_variables({"PYTHONOPTIMIZE": "2"}, RESUME, ("help",), ("gradcheck", "Tanh")),
    *with_variables({"PYTHONDEVMODE": "1"}, GENERATE),
    *with_variables({"PYTHONSAFEPATH": "1"}, GENERATE),
    *with_variables({"PYTHONUNBUFFERED": "1"}, TRAIN),
    *with_variables({"PYTHONDONTWRITEBYTECODE": "1"}, INFO),
    *with_variables({"PYTHONMALLOC": "debug"}, GENERATE),
    *with_variables({"PYTHONINTMAXSTRDIGITS": "0"}, ("train", "--seed", "9" * 5000)),
    *with_variables({"_ARGCOMPLETE": "1"}, INFO),
    *with_variables({"http_proxy": "nonsense", "https_proxy": "nonsense://"}, ("train", "--data", "the-verdict")),
    *with_python("-OO"),
    *with_python("-s", "-B", commands=(INFO,)),
    *with_python("-X", "utf8=0"),
    *with_python("-W", "error", commands=(TRAIN,)),
    *with_python("-X", "importtime", commands=()),
    *with_streams("<&-", GENERATE, TRAIN),
    *with_streams(">&-", GENERATE, TRAIN, INFO, PLOT),
    *with_streams("2>&-", GENERATE, TRAIN, ("trian",), ("generate", "{run}", "--top-k", "3"), heard=False),
    *with_streams("<&- >&- 2>&-", GENERATE, TRAIN, RESUME, ("help",), heard=False),
    *with_streams(">/dev/full", GENERATE, TRAIN, INFO, ("help",)),
    *with_streams("2>/dev/full", ("trian",), ("generate", "{run}", "--top-k", "3"), heard=False),
    *with_streams("1</dev/null", INFO),
    *with_streams("</dev/full", ("generate", "{run}", "--prompt", "-", "--max-new-tokens", "1")),
    *with_streams("<&-", ("generate", "{run}", "--prompt", "-"), ("generate", "{run}", "--interactive")),
    *with_shell("mkdir gone; cd gone; rmdir ../gone", GENERATE, TRAIN, INFO, ("train", "--out", "here"), ("plot", ".")),
    *with_shell("umask 777", TRAIN, PLOT, ("convert", "{run}", "{new}"), ("convert", "{run}", "{new}.safetensors")),
    *with_shell("umask 0", TRAIN),
    *with_shell("ulimit -n 5", GENERATE, INFO),
    *with_shell("ulimit -n 8", TRAIN, PLOT),
    *with_shell("ulimit -n 16", TRAIN),
    *with_shell("ulimit -f 0", TRAIN, PLOT, ("convert", "{run}", "{new}")),
    *with_shell("ulimit -f 20", TRAIN),
    *with_shell("ulimit -v 100000", GENERATE, TRAIN),
    *with_shell("ulimit -v 400000", GENERATE, TRAIN),
    *with_shell("ulimit -s 256", GENERATE, TRAIN),
    *with_shell("ulimit -u 1", GENERATE, ("bench", "--seconds", "0")),
    *with_shell("ulimit -u 1; export OPENBLAS_NUM_THREADS=1", GENERATE, TRAIN, RESUME),
    *with_shell("ulimit -u 1; export OPENBLAS_NUM_THREADS=1 NANOGRAD_THREADS=3", GENERATE, TRAIN),
    *with_shell("trap '' INT TERM HUP", TRAIN),
    *with_shell("chmod 500 .", ("train", "--out", "x", *TRAIN[5:]), ("convert", "{run}", "x")),
    *with_shell("ulimit -c 0; nice -n 19 true", INFO),
    *with_shell("touch random.py numpy.py; echo 1/0 >json.py; export PYTHONSAFEPATH=1", INFO),
]

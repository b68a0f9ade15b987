"""The layers: imports only go down.  They are read from the source, so that imports in functions count too."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from project_files import PACKAGE, ROOT, short, sources

LAYERS = [  # bottom up; modules of one layer do not import each other
    ["errors", "mask_recipe", "pytorch_names", "source_line", "startup", "tables"],
    ["arguments"],
    ["files", "backend", "rng"],
    ["documents", "nonzero_rows"],
    ["anomaly", "environment", "grad_mode", "tales", "tokenizer", "versions", "watchers"],
    ["rule_checks"],
    ["autograd"],
    ["moved_rows", "ops"],
    ["tensor"],
    ["gradcheck", "nn"],
    ["optim", "gpt"],
    ["generation", "parallel", "tape", "weights"],
    ["training"],
    ["bench", "explore", "viz"],
    ["cli"],
    ["__init__", "__main__"],
]
BACKEND = [
    ["bfloat16", "contract", "logits", "precision"],
    ["array_namespace"],
    ["plain"],
    ["cpu", "cuda"],
    ["cuda_probe"],
    ["select", "difference"],
    ["repeat"],
]

NEIGHBOURS: dict[tuple[str, str], str] = {}  # imports within a layer, and why: none
ABOVE: dict[tuple[str, str], str] = {}  # imports upwards, and why: none

# Documented elsewhere: kernels in the contract, for all implementations; a command by its module, whose first line is
# its help
COMMAND = {"add_arguments", "run"}

NEVER = {"torch", "pickle", "tensorflow", "transformers", "jax", "cloudpickle", "dill", "shelve", "marshal"}
ONLY_IN = {
    "matplotlib": {"viz"},
    "cupy": {"backend.select", "backend.cuda_probe", "backend.cuda"},
    "mpi4py": {"parallel.launched", "parallel.mpi_ranks", "parallel.watchdog"},
    "pooch": {"weights.cached_download"},
    "requests": {"weights.cached_download", "weights.resumable_download"},
}
AT_USE_ONLY = {
    "cupy",
    "matplotlib",
    "mpi4py",
    "torch",
    "pooch",
    "requests",
    "nanograd_gpt.cli",
    "nanograd_gpt.viz.plots",
    "nanograd_gpt.viz.figure_files",
    "tqdm",
}


class Import(NamedTuple):
    by: str  # module, from the package's root: "gpt.model"
    of: str  # "gpt.config", or another library's "numpy.linalg"
    own: bool
    line: int
    delayed: bool  # in a function: not run when the module is imported

    def __str__(self) -> str:
        return f"{self.by.replace('.', '/')}:{self.line} imports {self.of}"


# --- reading imports


def module_name(path: Path, package: Path) -> str:
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imports_of(path: Path, package: Path) -> Iterator[Import]:
    """Yield every import in a file, including those in functions and under `if TYPE_CHECKING`."""
    by = module_name(path, package)
    folder = path.relative_to(package).parent.parts
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)]
    delayed = {id(inside) for function in functions for inside in ast.walk(function)}
    for node in ast.walk(tree):
        for name in _names_in(node, folder, package):
            own = name.split(".")[0] == package.name
            of = name.removeprefix(package.name).lstrip(".") or "__init__" if own else name
            yield Import(by, of, own, node.lineno, id(node) in delayed)  # type: ignore[attr-defined]  # imports have a line


def _names_in(node: ast.AST, folder: tuple[str, ...], package: Path) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        start = [package.name, *folder][: len(folder) + 2 - node.level] if node.level else []
        base = ".".join([*start, *(node.module or "").split(".")]).strip(".")
        for alias in node.names:  # `from .. import ops` names a module, `from ..ops import Add` a class
            path = package.parent.joinpath(*base.split("."), alias.name)
            yield f"{base}.{alias.name}" if path.is_dir() or path.with_suffix(".py").is_file() else base
    elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__"):
        argument = node.args[0] if node.args else None
        yield argument.value if isinstance(argument, ast.Constant) else "an import by a name made at run time"


def _called(node: ast.Call) -> str:
    f = node.func
    return f.attr if isinstance(f, ast.Attribute) else f.id if isinstance(f, ast.Name) else ""


def all_imports(package: Path = PACKAGE) -> list[Import]:
    return [found for path in sorted(package.rglob("*.py")) for found in imports_of(path, package)]


# --- rules


def top_module(module: str) -> str:
    return module.split(".")[0]


def climbing(imports: list[Import], layers: list[list[str]], prefix: str = "") -> list[str]:
    """Imports within the package that go up, or to a neighbour that is not allowed; and modules outside all layers."""
    height = {name: i for i, layer in enumerate(layers) for name in layer}
    wrong = []
    for found in imports:
        if not (found.own and found.by.startswith(prefix) and found.of.startswith(prefix)):
            continue
        a, b = top_module(found.by.removeprefix(prefix)), top_module(found.of.removeprefix(prefix))
        if a == b:
            continue
        if a not in height or b not in height:
            wrong.append(f"{found}: {a if a not in height else b} is in no layer")
        elif height[a] < height[b] and (a, b) not in ABOVE:
            wrong.append(f"{found}: it imports upwards")
        elif height[a] == height[b] and (a, b) not in NEIGHBOURS:
            wrong.append(f"{found}: they share a layer")
    return wrong


def strangers(imports: list[Import]) -> list[str]:
    """Imports of other libraries where they do not belong."""
    wrong = []
    for found in imports:
        library = found.of.split(".")[0]
        modules = ONLY_IN.get(library)
        if not found.own and (library in NEVER or (modules is not None and not any(_in(found.by, r) for r in modules))):
            wrong.append(str(found))
    return wrong


def early(imports: list[Import]) -> list[str]:
    """Imports of CuPy, or of modules that import it, that run when their module is imported."""
    needs_cupy = [f for f in imports if _in(f.of, "cupy") or (f.own and _in(f.of, "backend.cuda"))]
    return [str(f) for f in needs_cupy if not f.delayed and not _in(f.by, "backend.cuda")]


def evaluations(path: Path) -> list[str]:
    """Calls that execute text as code."""
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    return [f"{call.func.id} in line {call.lineno}" for call in calls if _runs_text(call.func)]  # type: ignore[attr-defined]  # a name


def _runs_text(called: ast.expr) -> bool:
    return isinstance(called, ast.Name) and called.id in ("eval", "exec", "compile")


def _in(module: str, place: str) -> bool:
    return f"{module}.".startswith(f"{place}.")


def undocumented(path: Path) -> list[str]:
    """Public functions and classes of a module that have no docstring, the module itself among them."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    public = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]
    documented = {node.name for node in public if ast.get_docstring(node)}  # possibly one of its overloads
    names = [node.name for node in public if node.name not in documented]
    return names if ast.get_docstring(tree) else ["the module", *names]


def kernels_in_the_contract() -> set[str]:
    """The methods of the Protocol Kernels that have a docstring."""
    tree = ast.parse((PACKAGE / "backend" / "contract.py").read_text(encoding="utf-8"))
    (kernels,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Kernels")
    return {node.name for node in kernels.body if isinstance(node, ast.FunctionDef) and ast.get_docstring(node)}


# --- the package


def test_imports_run_down_only() -> None:
    assert climbing(all_imports(), LAYERS) == []


def test_within_the_backend_imports_run_down_only() -> None:
    assert climbing(all_imports(), BACKEND, prefix="backend.") == []


def test_every_module_is_in_a_layer_and_every_name_in_a_layer_is_a_module() -> None:
    there = {path.stem for path in PACKAGE.glob("*.py")} | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert sorted(name for layer in LAYERS for name in layer) == sorted(there)


def test_the_exceptions_are_still_needed() -> None:
    pairs = {(top_module(found.by), top_module(found.of)) for found in all_imports() if found.own}
    assert pairs >= {*NEIGHBOURS, *ABOVE}


def test_no_deep_learning_framework_and_no_pickle_and_each_heavy_library_in_its_module() -> None:
    assert strangers(all_imports()) == []


def test_cupy_and_the_kernels_that_need_it_are_imported_at_use_only() -> None:
    """Checked in the sources, since CuPy may be missing on this machine."""
    assert early(all_imports()) == []


def test_no_text_is_run_as_code() -> None:
    assert {short(path): found for path in PACKAGE.rglob("*.py") if (found := evaluations(path))} == {}


def test_importing_the_package_leaves_what_is_slow_or_optional_alone() -> None:
    """Checked in a new process, where nothing else is imported."""
    code = "import sys, nanograd_gpt; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    imported = set(done.stdout.split())
    assert "nanograd_gpt.tensor" in imported
    assert sorted(AT_USE_ONLY & imported) == []


def test_the_engine_is_read_in_two_hundred_lines() -> None:
    assert (PACKAGE / "autograd.py").read_text(encoding="utf-8").count("\n") <= 200


def test_no_file_is_longer_than_400_lines() -> None:
    lines = {short(path): path.read_text(encoding="utf-8").count("\n") for path in sources()}
    assert {path: n for path, n in lines.items() if n > 400} == {}


def documented_elsewhere(place: Path) -> set[str]:
    """The names that a file of the package, by its path there, need not document."""
    if place.match("backend/*/*"):
        return kernels_in_the_contract()
    return COMMAND if place.match("cli/*") else set()


def test_every_public_function_and_class_has_a_docstring() -> None:
    for path in sorted(PACKAGE.rglob("*.py")):
        assert {*undocumented(path)} - documented_elsewhere(path.relative_to(PACKAGE)) == set(), short(path)


# --- tests of the rules


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """A package of two layers and a file for each kind of import."""
    package = tmp_path / "demo"
    (package / "below").mkdir(parents=True)
    (package / "above").mkdir()
    for name in ("__init__", "below/__init__", "below/a", "below/b", "above/__init__", "above/c", "beside"):
        (package / f"{name}.py").write_text('"""A module."""\n', encoding="utf-8")
    return package


TWO_LAYERS = [["below", "beside"], ["above"], ["__init__"]]


def judged(demo: Path, file: str, source: str) -> list[str]:
    (demo / file).write_text(source, encoding="utf-8")
    return climbing(all_imports(demo), TWO_LAYERS)


@pytest.mark.parametrize(
    ("source", "of"),
    [
        ("from ..above import c", "above.c"),
        ("from ..above.c import thing", "above.c"),
        ("from .. import above", "above"),
        ("from .. import thing", "__init__"),
        ("from ..beside import thing", "beside"),
        ("import demo.above.c as c", "above.c"),
        ("from demo.above import c", "above.c"),
        ("from demo import above", "above"),
        ("import demo", "__init__"),
        ("def f():\n    from ..above import c", "above.c"),
        ("class C:\n    def f(self):\n        import demo.above.c", "above.c"),
        ("if TYPE_CHECKING:\n    from ..above import c", "above.c"),
        ("try:\n    pass\nexcept ImportError:\n    from .. import above", "above"),
        ("import importlib\nimportlib.import_module('demo.above')", "above"),
    ],
)
def test_an_import_that_climbs_is_found_wherever_it_stands(demo: Path, source: str, of: str) -> None:
    (wrong,) = judged(demo, "below/a.py", source)
    assert wrong.startswith(f"below/a:{source.count(chr(10)) + 1} imports {of}: ")


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("above/c.py", "from ..below import a\nfrom ..below.b import thing\nfrom .. import below"),
        ("above/c.py", "import demo.below.a, numpy\nfrom demo.below import b"),
        ("below/a.py", "from . import b\nfrom .b import thing\nimport democracy.above\nimport above"),
        ("__init__.py", "from .above.c import thing\nfrom . import below"),
    ],
)
def test_an_import_that_goes_down_is_allowed(demo: Path, file: str, source: str) -> None:
    assert judged(demo, file, source) == []


def test_a_module_in_no_layer_is_found(demo: Path) -> None:
    (demo / "loose.py").write_text("from .below import a", encoding="utf-8")
    (wrong,) = climbing(all_imports(demo), TWO_LAYERS)
    assert wrong == "loose:1 imports below.a: loose is in no layer"


@pytest.mark.parametrize(
    ("by", "source", "allowed"),
    [
        ("ops", "import torch", False),
        ("ops", "def f():\n    import torch.nn as nn", False),
        ("ops", "from pickle import loads", False),
        ("training/run", "__import__('pickle')", False),
        ("training/run", "import matplotlib.pyplot as plt", False),
        ("viz/plots", "from matplotlib.figure import Figure", True),
        ("autograd", "import cupy", False),
        ("backend/plain/norm", "import cupy", False),
        ("backend/select", "def f():\n    import cupy", True),
        ("backend/cuda/gemm", "import cupy as xp", True),
        ("backend/cudart", "import cupy", False),
        ("gpt/pooch", "from . import pooch", True),
        ("ops", "import torchless", True),
    ],
)
def test_a_library_in_the_wrong_module_is_found(tmp_path: Path, by: str, source: str, allowed: bool) -> None:
    path = tmp_path / "nanograd_gpt" / f"{by}.py"
    path.parent.mkdir(parents=True)
    path.write_text(source, encoding="utf-8")
    found = strangers(all_imports(tmp_path / "nanograd_gpt"))
    assert (found == []) is allowed


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import cupy", True),
        ("try:\n    from cupy import ndarray\nexcept ImportError:\n    pass", True),
        ("from . import cuda", True),
        ("def f():\n    import cupy\n    from . import cuda", False),
        ("import cupyx_not", False),
    ],
)
def test_an_import_of_cupy_with_the_module_is_found(tmp_path: Path, source: str, found: bool) -> None:
    backend = tmp_path / "nanograd_gpt" / "backend"
    (backend / "cuda").mkdir(parents=True)
    (backend / "cuda" / "__init__.py").write_text("import cupy", encoding="utf-8")
    (backend / "select.py").write_text(source, encoding="utf-8")
    assert (early(all_imports(tmp_path / "nanograd_gpt")) != []) is found


def test_text_run_as_code_is_found(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("model.eval()\nx = eval('1')\ndef f():\n    exec('x')", encoding="utf-8")
    assert evaluations(tmp_path / "m.py") == ["eval in line 2", "exec in line 4"]


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ('"""M."""\ndef f():\n    """F."""\nclass C:\n    """C."""\n    def method(self): ...', []),
        ('"""M."""\ndef f(): ...\nclass C: ...\nasync def g(): ...', ["f", "C", "g"]),
        ('"""M."""\ndef _f(): ...\nclass _C: ...', []),
        ('def f():\n    """F."""', ["the module"]),
    ],
)
def test_what_has_no_docstring_is_found(tmp_path: Path, source: str, names: list[str]) -> None:
    (tmp_path / "m.py").write_text(source, encoding="utf-8")
    assert undocumented(tmp_path / "m.py") == names

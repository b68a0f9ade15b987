"""ops/README.md lists every function on Tensors, and no others."""

from __future__ import annotations

import re
from pathlib import Path

from nanograd_gpt import ops
from nanograd_gpt.nn import functional as F
from nanograd_gpt.tensor import Tensor

TABLE = (Path(ops.__path__[0]) / "README.md").read_text(encoding="utf-8").split("|---|---|---|\n")[1].split("\n\n")[0]
FIRST_COLUMN = " ".join(line.split("|")[1] for line in TABLE.splitlines())
EDIT = "edit the first column of the table in nanograd_gpt/ops/README.md"
NO_OPERATIONS = {"data", "node", "shape", "ndim", "size", "dtype", "device", "requires_grad", "grad", "zero_grad"}


def test_every_function_is_in_the_table() -> None:
    public = {name for name, value in vars(F).items() if getattr(value, "__module__", "") == F.__name__}
    listed = set(re.findall(r"`F\.(\w+)`", FIRST_COLUMN))
    assert listed == {name for name in public if not name.startswith("_")}, EDIT


def test_every_method_of_a_tensor_is_in_the_table() -> None:
    methods = {name for name in vars(Tensor) if not name.startswith("_")} - NO_OPERATIONS
    assert set(re.findall(r"`\.(\w+)`", FIRST_COLUMN)) == methods, EDIT

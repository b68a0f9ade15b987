"""Every operation, in every case, has the numeric gradient and keeps the engine's rules; and none is without cases."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator

import pytest

from nanograd_gpt import ops
from nanograd_gpt.autograd import Function
from nanograd_gpt.backend.contract import Array
from nanograd_gpt.gradcheck import check_accumulation, check_gradients, check_ownership
from nanograd_gpt.gradcheck.cases import Case, cases
from nanograd_gpt.ops import attention, loss
from nanograd_gpt.viz.graph import Probe

CASES = list(cases())
every_case = pytest.mark.parametrize("case", CASES, ids=str)


@pytest.mark.parametrize("case", [case for case in CASES if not case.is_empty], ids=str)
def test_the_gradient_is_the_numeric_one(case: Case) -> None:
    check_gradients(case, case.inputs, method=case.method, name=str(case))


@every_case
def test_gradients_are_new_or_lent_and_nothing_is_written_to(case: Case) -> None:
    check_ownership(case.op, case.inputs, case.params)


@every_case
def test_the_gradient_is_the_same_in_every_way_of_asking_for_it(case: Case) -> None:
    check_accumulation(case, case.inputs)


# The registry


def operations(parent: type[Function] = Function) -> Iterator[type[Function]]:
    """Every operation of the package, and none that a test has defined."""
    for module in pkgutil.iter_modules(ops.__path__):
        importlib.import_module(f"{ops.__name__}.{module.name}")
    for op in parent.__subclasses__():
        if op.__module__.startswith("nanograd_gpt.") and op is not Probe:  # see tests/viz/test_graph.py
            yield op
        yield from operations(op)


def differentiated(case: Case) -> list[Array]:
    return [a for a in case.inputs if a.dtype.kind == "f"]


KINDS: dict[str, Callable[[Case], bool]] = {
    "size 1": lambda case: all(a.size == 1 for a in differentiated(case)),
    "empty": lambda case: case.is_empty or any(a.size == 0 for a in case.inputs),
    "strided": lambda case: any(a.size > 1 and min(a.strides) < 0 for a in differentiated(case)),
    "stride 0": lambda case: any(a.size > 1 and 0 in a.strides for a in differentiated(case)),
    "one array twice": lambda case: len({id(a) for a in case.inputs}) < len(case.inputs),
}
SENSELESS = {
    ("size 1", attention.CausalAttention),  # it takes queries, keys and values: three numbers
    ("empty", loss.CrossEntropy),  # there is no mean of nothing
    ("empty", loss.LinearCrossEntropy),
}


def test_every_operation_has_cases() -> None:
    without = {op.__name__ for op in {*operations()} - {case.op for case in CASES}}
    assert not without, f"{without}: add cases in nanograd_gpt/gradcheck/cases.py"


@pytest.mark.parametrize("op", {case.op: None for case in CASES}, ids=lambda op: op.__name__)
def test_an_operations_cases_are_of_every_kind(op: type[Function]) -> None:
    own = [case for case in CASES if case.op is op]
    several = any(len(differentiated(case)) > 1 for case in own)
    expected = {kind for kind in KINDS if (kind, op) not in SENSELESS and (several or kind != "one array twice")}
    missing = expected - {kind for kind, is_one in KINDS.items() if any(is_one(case) for case in own)}
    assert not missing, f"{op.__name__}: add cases in nanograd_gpt/gradcheck/cases.py of the kinds {missing}"

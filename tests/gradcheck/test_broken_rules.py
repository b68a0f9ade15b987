"""The mutation score: every deliberately broken rule is caught by its operation's own cases, and no right one is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nanograd_gpt.autograd import Function
from nanograd_gpt.gradcheck import GradientError
from nanograd_gpt.gradcheck.cases import cases

from .all_broken_rules import broken_rules
from .broken_rules import true, with_rule

CASES = list(cases())
BROKEN = list(broken_rules())


def caught_by(op: type[Function], broken: type[Function]) -> str | None:
    """The case that shows the rule to be wrong: by numbers, or by a shape that does not fit."""
    for case in CASES:
        if case.op is op:
            inputs = {id(a): a.copy() for a in case.inputs}  # a broken rule may write to them
            try:
                with np.errstate(all="ignore"):
                    replace(case, op=broken, inputs=tuple(inputs[id(a)] for a in case.inputs)).check()
            except (GradientError, ValueError):
                return str(case)
    return None


@pytest.mark.parametrize(
    ("op", "broken"), [pytest.param(op, broken, id=f"{op.__name__}, {what}") for op, what, broken in BROKEN]
)
def test_a_broken_rule_is_caught(op: type[Function], broken: type[Function]) -> None:
    assert caught_by(op, broken) is not None


@pytest.mark.parametrize("op", {case.op: None for case in CASES}, ids=lambda op: op.__name__)
def test_a_right_rule_in_place_of_another_is_not_caught(op: type[Function]) -> None:
    again = with_rule(op, lambda dy, *inputs, **params: true(op, dy, *inputs, **params))
    assert caught_by(op, again) is None


def test_every_operation_has_broken_rules() -> None:
    without = {case.op.__name__ for case in CASES} - {op.__name__ for op, _, _ in BROKEN}
    assert not without, f"{without}: add broken rules in tests/gradcheck/broken_*.py"
    assert len({(op, what) for op, what, _ in BROKEN}) == len(BROKEN) >= 70

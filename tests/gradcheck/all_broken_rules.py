"""Every deliberately broken rule, of all operations."""

from __future__ import annotations

from collections.abc import Iterator

from .broken_elementwise import ELEMENTWISE
from .broken_fused import FUSED
from .broken_matmul import MATMUL
from .broken_memory import memory_rules
from .broken_reduce import REDUCE
from .broken_rules import Operation, with_rule
from .broken_shape import SHAPE


def broken_rules() -> Iterator[tuple[Operation, str, Operation]]:
    """Triples of an operation, the name of an error, and the operation with that error."""
    for table in (ELEMENTWISE, REDUCE, SHAPE, MATMUL, FUSED):
        for op, rules in table.items():
            for what, rule in rules.items():
                yield op, what, with_rule(op, rule)
    yield from memory_rules()

"""Calls, one a line, whose answers by the real CuPy are in cupy_calls.json: what it takes, refuses, and of which dtype.

Write the answers of the CuPy that is installed by `python tests/standin/calls.py`.  It needs a GPU, or, as for the
committed ones, a CuPy built from its source with CUPY_INSTALL_USE_STUB, whose calls of CUDA do nothing: the arguments
are CuPy's to judge, no kernel runs, and no value is looked at.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

TABLE = Path(__file__).with_name("cupy_calls.json")
CALLS = """
xp.where(False, x, 0.0)
xp.where(np.bool_(True), x, 0.0)
xp.where(np.bool_(True), 1, 0)
xp.where([True, False, True], x, 0)
xp.where(1, x, 0)
xp.where(1.0, x, 0)
xp.where(np.float32(1), x, 0)
xp.where(np.array(True), x, 0)
xp.where(x, x, 0)
xp.where(b, 1, x)
xp.where(b, 1.0, i)
xp.where(b, 1, b)
xp.where(b, [1, 2, 3], x)
xp.where(b, x, None)
xp.where(b, x)
xp.where(b, x, np.float64(0))
xp.where(b, x, np.array(0.0))
xp.where(b, c[0], x)
xp.where(b, 1j, x)
xp.where(None, x, x)
xp.where(True)
xp.where([1, 0])
xp.where(np.array([1, 0]))
xp.nonzero([1, 0])
xp.nonzero(np.array([1, 0]))
xp.stack([1, 2])
xp.stack([x, 1])
xp.stack([x, np.ones((2, 3), 'f4')])
xp.stack([[1, 2], [3, 4]])
xp.stack(x)
xp.stack((x, i))
xp.stack([x[0], x])
xp.stack([])
xp.stack([x.sum(), 1.0])
xp.stack([np.float32(1), x.sum()])
xp.concatenate([x, 1])
xp.concatenate([x, [[1, 2, 3]]])
xp.concatenate([x, np.ones((2, 3))])
xp.concatenate([x.sum(), x.sum()])
xp.concatenate([1, 2])
xp.concatenate(x)
xp.concatenate([x, x], axis=None)
xp.concatenate([x, 1], axis=None)
xp.concatenate([x, np.ones(3)], axis=None)
xp.concatenate([x, x[0]])
xp.concatenate([])
xp.concatenate([x, x64])
xp.concatenate([x, x64], dtype='f4')
xp.concatenate([x, b])
xp.hstack([x, x])
xp.hstack([1, 2])
xp.vstack([x, [1, 2, 3]])
xp.vstack([x, x])
xp.broadcast_to(1, (2,))
xp.broadcast_to(1.0, (2,))
xp.broadcast_to([1, 2, 3], (2, 3))
xp.broadcast_to(np.ones(3), (2, 3))
xp.broadcast_to(np.float32(1), (2, 3))
xp.broadcast_to(x.sum(), (2, 3))
xp.broadcast_to(x[0], 3)
xp.broadcast_to(x[0], [2, 3])
xp.broadcast_to(x, (3, 3))
xp.broadcast_arrays(x, x[0])
xp.repeat(1, 2)
xp.repeat([1, 2], 2)
xp.repeat(np.ones(2), 2)
xp.repeat(x, np.array([1, 2]), axis=0)
xp.repeat(x, np.int64(2), axis=0)
xp.repeat(x, 2.0, axis=0)
xp.repeat(x, True, axis=0)
x.repeat(np.array([1, 2]), axis=0)
xp.empty_like(1.0)
xp.empty_like([1.0])
xp.empty_like(np.ones((2, 3)))
xp.empty_like(np.float32(1))
xp.empty_like(x, shape=())
xp.empty_like(x, shape=(4,))
xp.empty_like(x, shape=2)
xp.empty_like(x, subok=True)
xp.zeros_like(1.0)
xp.zeros_like([1.0])
xp.zeros_like(np.ones((2, 3)))
xp.zeros_like(np.float32(1))
xp.zeros_like(x, dtype=bool)
xp.zeros_like(x, shape=())
xp.zeros_like(x.T)
xp.ones_like(1)
xp.ones_like([1.0])
xp.ones_like(np.ones((2, 3)))
xp.ones_like(x, dtype='c8')
xp.full_like(1.0, 2)
xp.full_like([1.0], 2)
xp.full_like(x, 2)
xp.full_like(x, 2.5, dtype=int)
xp.full_like(x, np.array(2.0))
xp.full_like(x, np.ones(3))
xp.full_like(x, [1, 2, 3])
xp.full_like(x, x[0])
xp.full_like(x, x.sum())
xp.full_like(np.ones((2, 3)), 2)
xp.full((2, 3), x[0])
xp.full((2, 3), np.ones(3))
xp.full((2, 3), np.array([2.0]))
xp.full((2, 3), [1, 2, 3])
xp.full((2, 3), np.float32(1))
xp.full((2, 3), True)
xp.full(2, 1j)
xp.zeros((2, x.sum()))
xp.linalg.norm(1.0)
xp.linalg.norm([1.0, 2.0])
xp.linalg.norm(np.ones(3))
xp.linalg.norm(i)
xp.linalg.norm(c)
xp.linalg.norm(x, axis=1)
xp.linalg.norm(x, axis=1, keepdims=True)
xp.linalg.norm(x.sum())
xp.add.at(np.ones(3), i[0], 1)
xp.add.at([1.0, 2.0], i[0], 1)
xp.add.at(1.0, i[0], 1)
xp.add.at(x, 0, [1, 2, 3])
xp.add.at(x, 0, np.ones(3))
xp.add.at(x, 0, np.float32(1))
xp.add.at(x, slice(None), 1.0)
xp.add.at(x, i[0] % 2, 1.0)
xp.add.at(x, i[0] % 2, [1, 2, 3])
xp.add.at(x, i[0] % 2, np.ones(3))
xp.add.at(x, i[0] % 2, None)
xp.add.at(x, [0, 1, 1], x[0])
xp.add.at(x, (i[0] % 2, 0), 1)
xp.add.at(x, np.int64(0), 1)
xp.add.at(x, 0, 1j)
xp.add.at(x, i[0] % 2, 1j)
xp.add.at(x, i[0] % 2, c[0])
xp.add.at(x, x, 1)
xp.add.at(i, 0, 0.5)
xp.add.at(b, [0], True)
xp.add.at(b, 0, True)
xp.add.at(c, [0], 1)
xp.add.at(c, 0, 1)
xp.subtract.at(x, [0], 1)
xp.maximum.at(x, [0], 1)
xp.multiply.at(x, [0], 1)
xp.sum(1.0)
xp.sum([1.0])
xp.sum(np.ones(3))
xp.mean([1.0])
xp.max(np.float32(1))
xp.cumsum([1.0])
xp.cumsum(1.0)
xp.any([True])
xp.all(True)
xp.argmax([1, 2])
xp.argsort([1, 2])
xp.expand_dims(1.0, 0)
xp.expand_dims([1.0], 0)
xp.expand_dims(np.ones(3), 0)
xp.swapaxes([[1]], 0, 1)
xp.transpose([[1, 2]])
xp.reshape([1, 2], (2, 1))
xp.ravel([1])
xp.squeeze([1])
xp.split([1, 2], 2)
xp.array_split([1, 2], 2)
xp.take([1, 2], 0)
xp.take(x, 0)
xp.take(x, [0, 1])
xp.take(x, [0.0])
xp.take(x, np.array([0, 1]))
xp.take_along_axis([1, 2], i[0], 0)
xp.take_along_axis(x, [[1]], 1)
xp.take_along_axis(x, np.array([[1], [0]]), 1)
xp.dot(x, 2)
xp.dot([1.0], [1.0])
x.dot(2)
xp.einsum('ij->i', [[1.0]])
xp.tensordot([1.0], [1.0], 1)
xp.outer([1.0], [1.0])
xp.inner([1.0], [1.0])
xp.clip(1.0, 0, 1)
xp.clip([1.0], 0, 1)
xp.clip(x, None, 1)
xp.clip(x, np.zeros(3), 1)
xp.clip(x, [0, 0, 0], 1)
xp.clip(x, x[0], np.float64(1))
xp.maximum(1, 2)
xp.maximum(x, [1, 2, 3])
xp.maximum(x, np.float64(1))
xp.maximum(c, 1)
xp.maximum(True, x)
xp.exp([1.0])
xp.log(0)
xp.log(2)
xp.abs(-1)
xp.sqrt(np.float32(4))
xp.sqrt(np.array(4.0))
xp.isnan(1.0)
xp.isfinite([1.0])
xp.tril([[1.0]])
xp.tril(np.ones((2, 2)))
xp.tril(x)
xp.triu([[1.0]])
xp.tri(x.size)
xp.flip([1, 2])
xp.roll([1, 2], 1)
xp.tile([1, 2], 2)
xp.tile(1.0, 2)
xp.diff([1, 2])
xp.var([1.0])
xp.std(1.0)
xp.prod([1.0])
xp.count_nonzero([1])
xp.count_nonzero(1)
xp.array_equal([1], [1])
xp.array_equal(x, 1)
xp.array_equal(x, np.ones(3))
xp.allclose([1.0], [1.0])
xp.allclose(x, 1.0)
xp.allclose(x, np.ones(3))
xp.isclose(x, [1.0, 2.0, 3.0])
xp.copy(1.0)
xp.copy(np.ones(3))
xp.ascontiguousarray([1.0])
xp.ascontiguousarray(np.ones(3))
xp.shape([1.0])
xp.ndim(1.0)
xp.size([1.0])
xp.size(x)
xp.result_type(1, x)
xp.result_type([1.0], x)
xp.unique([1])
xp.searchsorted(i[0], 1)
xp.bincount([1])
xp.moveaxis([[1]], 0, 1)
xp.rollaxis([[1]], 0)
xp.trace([[1]])
xp.diagonal([[1]])
xp.diag([1, 2])
xp.diag(x[0])
xp.pad([1], 1)
xp.median([1.0])
xp.outer(x[0], 2.0)
xp.meshgrid([1], [2])
xp.linspace(0, 1, 3)
xp.linspace(x[0, 0], 1, 3)
xp.atleast_1d(1.0)
xp.atleast_1d([1.0])
xp.atleast_2d(x)
xp.asarray([1.0, 2.0])
xp.asarray(np.array(1.0))
xp.asarray([x[0], 1.0])
xp.asarray([x[0, 0], 1.0])
xp.asarray([[x[0, 0]], [x[0, 1]]])
xp.matmul(x, 2)
xp.matmul(x, np.ones((3, 2), 'f4'))
x @ 2.0
2.0 @ x
x + np.array(2.0)
np.array(2.0) + x
x == np.array(2.0)
np.array(2.0) == x
xp.equal(x, np.array(2.0))
x < np.ones(3)
x + True
True + x
x * 1j
1j * x
c * 2
c * x
c + np.float64(1)
x + np.complex64(1)
i * 1j
b * 1j
b + True
b + 1
b * 2
b / 2
b * b
b - b
b - True
b ** 2
b ** b
b ** 1
i ** 2.0
i ** 0.5
i ** -1.0
x ** 2.0
x ** -1.0
x ** 1
x ** True
c ** 2
c ** 0.5
c ** c
np.float64(2) ** x
np.int64(2) ** x
x.astype('u1') ** 2
x.astype('u1') ** 0.5
x.astype('e') ** 2
+b
-c
abs(c)
~i
~x
b & True
b & 1
i | b
x & 1
b > 0
b > 0.5
c > c
c == 1
c == 1j
x == 1j
x == True
x == None
x != object()
x == object()
x == 'a'
x < None
x.astype('u1') + 300
x.astype('u1') + 3
x.astype('u1') + (-1)
x.astype('u1') * 1.5
x.astype('e') * 2.0
x.astype('e') + x
i + np.uint64(1)
xp.logical_not(1)
xp.logical_and(b, 1)
xp.logical_and(c, True)
xp.sign(c)
xp.floor(i)
xp.floor(c)
xp.maximum(b, 1)
xp.minimum(b, b)
c.sum()
c.mean()
c.max()
c.argmax()
c.real.max()
xp.max(c)
b.sum(axis=0)
b.mean(axis=0)
b.max(axis=0)
b.cumsum()
b.any(axis=0)
b.argmax(axis=0)
x.sum(axis=np.int64(0))
x.sum(axis=[0])
x.sum(axis=0.0)
x.sum(axis=(0, 0))
x.sum(axis=2)
x.sum(axis=())
x.mean(axis=())
x.max(axis=())
x[:0].sum(axis=0)
x[:0].mean(axis=0)
x[:0].max(axis=0)
x[:0].max(axis=1)
x.sum().sum(axis=0)
x.sum().sum(axis=-1)
x.sum().max(axis=0)
x.sum().squeeze(0)
x.squeeze(0)
x.sum(dtype='f8')
x.sum(axis=0, out=xp.empty(3, 'f4'))
x.sum(axis=0, out=xp.empty(3, 'f8'))
x.sum(axis=0, out=xp.empty(3, 'i4'))
x.sum(axis=0, out=x[0])
x.sum(axis=1, out=x[:, 0])
x.max(axis=0, out=x[0])
x.cumsum(axis=1, out=x)
xp.take(x, [0, 1], out=x[0, :2])
xp.add(x, 1, out=x)
xp.add(x[:, 1:], 1, out=x[:, :2])
xp.exp(x[:, 1:], out=x[:, :2])
xp.clip(x[:, 1:], 0, 1, out=x[:, :2])
xp.concatenate([x[0], x[1]], out=x.reshape(6))
xp.stack([x[0], x[1]], out=x)
x.copy().__setitem__((0, slice(1, None)), x[0, :2])
x.__setitem__((slice(None), slice(1, None)), x[:, :2])
x.__setitem__((slice(None), 0), x[:, 1])
x.__setitem__([0, 1], x[::-1])
x.__setitem__(slice(None), x[::-1])
x.__setitem__(0, [1, 2, 3])
x.__setitem__(0, (1, 2, 3))
x.__setitem__(0, [1])
x.__setitem__(0, None)
x.__setitem__(0, 'a')
x.__setitem__(0, 1j)
x.__setitem__(0, np.float64(1))
x.__setitem__(0, np.array(1.0))
x.__setitem__(0, np.array([1.0]))
x.__setitem__((0, 0), np.array([1.0]))
x.__setitem__([0], [1, 2, 3])
x.__setitem__([0], np.ones(3))
x.__setitem__(0, c[0])
x.__setitem__(0, x64[0])
i.__setitem__(0, x[0])
i.__setitem__(0, 1.5)
b.__setitem__(0, 2)
x.fill(x.sum())
x.fill(x[0])
x.fill(np.array(1.0))
x.fill([1.0])
x.fill([1.0, 2.0])
x.fill(1j)
x.fill(None)
x.__iadd__(np.ones(3))
x.__iadd__([1, 2, 3])
x.__iadd__(1j)
x.__iadd__(x64)
i.__iadd__(1.5)
i.__itruediv__(2)
b.__iadd__(1)
b.__imul__(2)
x.__ipow__(2)
x.__imatmul__(x)
x[0, 1]
x[0][1]
x[0, 1].base is x
x.sum()[...]
x.sum()[()]
x.sum()[None]
x.sum()[0]
x[np.int64(0), 1]
x[[]]
x[()]
x[None]
x[0, ..., None]
x[..., ...]
x[(0, 1), :]
x[xp.asarray(np.array([], int))]
x[np.array([], float)]
x[[0.5]]
x[b[0]]
x[i[0, 0]]
x[i[0, 0], 0]
x[:i[0, 0]]
x.reshape(-1)
x.reshape((3, -1))
x.reshape(4, 2)
x.reshape(xp.asarray(np.array([3, 2])))
x.reshape(np.array([3, 2]))
x.reshape([3, 2])
x.transpose([1, 0])
x.transpose(1, 0)
x.transpose(0)
x.swapaxes(0, 5)
x.astype(complex)
c.astype(float)
x.astype('a')
x.view('i4').dtype
x.item(0)
x.sum().__float__()
x.sum().__index__()
x[:0].__bool__()
x.__len__()
x.sum().__len__()
x.max(where=b)
x.round(2)
x.clip(0, 1)
x.clip(0)
x.trace()
x.diagonal()
x.argsort()
x.sort()
x.take([0, 1])
x.conj()
c.conj() is c
x.conj() is x
xp.real(x) is x
xp.real(1.0)
xp.imag(x)
xp.angle(c)
np.where(True, x, 0)
np.where(b, x, 0)
np.where(np.ones((2, 3), bool), x, 0)
np.stack([x, np.ones((2, 3), 'f4')])
np.broadcast_to(x, (2, 2, 3))
np.zeros_like(x)
np.full_like(x, 1)
np.ones_like(x)
np.empty_like(x)
np.linalg.norm(x, axis=1)
np.concatenate([x, np.ones((2, 3))])
np.repeat(x, 2)
np.maximum(x, 0)
np.maximum(0, x)
np.maximum(x, np.ones(3))
np.add.at(x, 0, 1)
np.add.reduce(x)
np.maximum.reduce(x)
np.add.outer(x[0], x[0])
np.exp(x, out=x)
np.add(x, 1, out=np.ones((2, 3), 'f4'))
np.less(x, np.array(1.0))
np.add(x, np.array(1.0))
np.isscalar(x)
np.ndim(x)
np.shape(x)
np.size(x)
np.result_type(x, 1.0)
np.float32(1) * x
np.float64(1) / x
np.int64(1) - x
np.bool_(True) * x
np.array([1, 2, 3]) * x
[1, 2, 3] * x
x * [1, 2, 3]
x * (1, 2, 3)
""".strip().splitlines()


def answer(call: str, xp: ModuleType) -> str:
    """'float32[2, 3]' for a device array, else the name of a value's type; errors are raised."""
    names = {"xp": xp, "np": np}
    names |= {name: xp.asarray(host) for name, host in arguments().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return described(eval(call, names), xp)  # of the text above


def arguments() -> dict[str, Any]:
    """The arrays that the calls name, made anew for each: a call may write to them."""
    return {
        "x": np.array([[1.5, 2.0, 0.5], [0.7, 3.0, 1.1]], np.float32),
        "x64": np.ones((2, 3)),
        "i": np.array([[1, 2, 0], [2, 0, 1]]),
        "b": np.array([[True, False, True], [False, True, True]]),
        "c": np.array([1 + 2j, 2 - 1j], np.complex64),
    }


def described(value: Any, xp: ModuleType) -> str:
    if isinstance(value, xp.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}({', '.join(described(item, xp) for item in value)})"
    return "numpy's array" if isinstance(value, np.ndarray) else type(value).__name__


def answers(xp: ModuleType) -> dict[str, str]:
    found = {}
    for call in CALLS:
        try:
            found[call] = answer(call, xp)
        except Exception as error:  # the answer
            found[call] = f"raises {type(error).__name__}"
    return found


def main() -> None:
    import cupy

    rows = [f"{json.dumps(call)}: {json.dumps(text)}" for call, text in answers(cupy).items()]
    table = ",\n".join(rows)
    TABLE.write_text(f'{{\n"cupy_version": "{cupy.__version__}",\n"answers": {{\n{table}\n}}\n}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()

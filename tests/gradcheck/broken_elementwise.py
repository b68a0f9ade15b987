"""Broken rules of the elementwise operations."""

from __future__ import annotations

import numpy as np

from nanograd_gpt.backend.contract import Array
from nanograd_gpt.ops import elementwise

from .broken_rules import Operation, Rule, in_float32, to

ELEMENTWISE: dict[Operation, dict[str, Rule]] = {
    elementwise.Add: {
        "right side twice": lambda dz, x, y: (to(x, dz), to(y, 2 * dz)),
        "a repeated element takes the mean": lambda dz, x, y: (to(x, dz), to(y, dz) * (y.size / max(1, dz.size))),
        "one new array for both": lambda dz, x, y: (g := to(x, 1 * dz), g if x.shape == y.shape else to(y, dz)),
        "nothing for the right one of two equal arrays": lambda dz, x, y: (to(x, dz), None if y is x else to(y, dz)),
        "not summed where repeated": lambda dz, x, y: (dz, dz),
    },
    elementwise.Sub: {
        "sign of the right side": lambda dz, x, y: (to(x, dz), to(y, dz)),
        "negated in place": lambda dz, x, y: (to(x, dz), to(y, np.negative(dz, out=dz))),
    },
    elementwise.Mul: {
        "operands swapped": lambda dz, x, y: (to(x, dz * x), to(y, dz * y)),
        "float32 on the way": lambda dz, x, y: (to(x, in_float32(dz * y)), to(y, dz * x)),
        "a square counted once": lambda dz, x, y: (to(x, dz * y), None if y is x else to(y, dz * x)),
    },
    elementwise.Div: {
        "sign of the denominator": lambda dz, x, y: (to(x, dz / y), to(y, dz * x / y**2)),
        "denominator not squared": lambda dz, x, y: (to(x, dz / y), to(y, -dz * x / y)),
        "numerator not divided": lambda dz, x, y: (to(x, dz + 0 * y), to(y, -dz * x / y**2)),
        "numerator forgotten below": lambda dz, x, y: (to(x, dz / y), to(y, -dz / y**2)),
    },
    elementwise.Neg: {
        "sign": lambda dy, x: (dy,),
        "in place": lambda dy, x: (np.negative(dy, out=dy),),
    },
    elementwise.Pow: {
        "exponent not lowered": lambda dz, x, y: (to(x, dz * y * x**y), to(y, dz * x**y * log(x))),
        "exponent not in front": lambda dz, x, y: (to(x, dz * x ** (y - 1)), to(y, dz * x**y * log(x))),
        "log of the exponent": lambda dz, x, y: (to(x, dz * y * x ** (y - 1)), to(y, dz * x**y * log(y))),
        "log forgotten": lambda dz, x, y: (to(x, dz * y * x ** (y - 1)), to(y, dz * x**y)),
        "by logs, blind below 0": lambda dz, x, y: (
            to(x, dz * y * np.exp((y - 1) * log(x))), to(y, dz * x**y * log(x))
        ),
    },
    elementwise.Exp: {
        "derivative of the input": lambda dy, x: (dy * x,),
        "float32 on the way": lambda dy, x: (dy * in_float32(np.exp(x)),),
    },
    elementwise.Log: {
        "base 10": lambda dy, x: (dy / (x * np.log(10)),),
        "of 1 + x": lambda dy, x: (dy / (1 + x),),
        "times x": lambda dy, x: (dy * x,),
    },
    elementwise.Sqrt: {
        "half forgotten": lambda dy, x: (dy / np.sqrt(x),),
        "divided by x": lambda dy, x: (0.5 * dy / x,),
    },
    elementwise.Tanh: {
        "output not squared": lambda dy, x: (dy * (1 - np.tanh(x)),),
        "square of the input": lambda dy, x: (dy * (1 - x * x),),
        "cosh not squared": lambda dy, x: (dy / np.cosh(x),),
    },
    elementwise.Maximum: {
        "the smaller gets it": lambda dz, x, y: (to(x, dz * (x < y)), to(y, dz * (x >= y))),
        "equal ones get it all": lambda dz, x, y: (to(x, dz * (x >= y)), to(y, dz * (y >= x))),
        "both get half": lambda dz, x, y: (to(x, dz / 2), to(y, dz / 2)),
        "right side always": lambda dz, x, y: (to(x, dz * (x >= y)), to(y, dz)),
    },
    elementwise.Minimum: {
        "the larger gets it": lambda dz, x, y: (to(x, dz * (x > y)), to(y, dz * (x <= y))),
        "equal ones get it all": lambda dz, x, y: (to(x, dz * (x <= y)), to(y, dz * (y <= x))),
        "both get half": lambda dz, x, y: (to(x, dz / 2), to(y, dz / 2)),
        "sign, as of -max(-x, -y)": lambda dz, x, y: (to(x, -dz * (x < y)), to(y, -dz * (x >= y))),
    },
    elementwise.Where: {
        "inverted": lambda dz, x, y, condition: (to(x, dz * ~condition), to(y, dz * condition)),
        "no condition on the right": lambda dz, x, y, condition: (to(x, dz * condition), to(y, dz)),
        "condition as a sign": lambda dz, x, y, condition: (to(x, dz * condition), to(y, -dz * ~condition)),
    },
}  # fmt: skip


def log(x: Array) -> Array:
    with np.errstate(invalid="ignore"):
        return np.log(x)

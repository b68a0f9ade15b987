"""Gradient checks against numeric derivatives, for the package's operations and for any function of Tensors."""

from .check import GradientError, check_function, check_gradients, check_hessian_symmetry
from .numeric import central_difference, complex_step, forward_difference, richardson
from .ownership import check_accumulation, check_ownership

__all__ = [
    "GradientError",
    "central_difference",
    "check_accumulation",
    "check_function",
    "check_gradients",
    "check_hessian_symmetry",
    "check_ownership",
    "complex_step",
    "forward_difference",
    "richardson",
]

"""Proof that gradients are right, for our operations and for anyone's functions.

from nanograd_gpt.gradcheck import check_gradients
check_gradients(lambda x: (x * x).tanh().sum(), [numpy.random.standard_normal((2, 3))])
"""

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

"""Every kernel as a straightforward formula, in the functions that NumPy and CuPy share (`xp`).

A backend starts from these (kernels.py names them) and replaces those for which it has a faster kernel.
"""

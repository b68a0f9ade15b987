"""Every kernel once, as the straight formula in the vocabulary that NumPy and CuPy share (`xp`).

A backend takes a family from here until it has a faster one of its own.
"""

"""The command line, `nanograd-gpt` or `python -m nanograd_gpt`."""

from .main import main

__all__ = ["main"]

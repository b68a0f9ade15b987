"""The command line, `nanograd-gpt` or `python -m nanograd_gpt`."""
# PYTHON_ARGCOMPLETE_OK: completion runs this module

from .main import main

__all__ = ["main"]

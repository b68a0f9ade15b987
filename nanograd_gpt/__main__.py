"""python -m nanograd_gpt"""
# PYTHON_ARGCOMPLETE_OK: completion runs this module

import sys

from .cli import main

sys.exit(main())

"""python -m nanograd_gpt"""

import sys

from .cli import main

sys.exit(main())

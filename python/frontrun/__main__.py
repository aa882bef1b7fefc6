"""``python -m frontrun`` is ``frontrun``."""

import sys

from frontrun.cli import main

sys.exit(main())

"""``python -m vbon.cli``."""

import sys

from vbon.cli import main

sys.exit(main())

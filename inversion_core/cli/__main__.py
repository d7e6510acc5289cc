"""`python -m inversion_core.cli`, the same as `inversion`."""

import sys

from inversion_core.cli import main

sys.exit(main())

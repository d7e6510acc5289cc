"""`python -m inversion_client`, the same as `inversion-submit`."""

import sys

from inversion_client.command import main

sys.exit(main())

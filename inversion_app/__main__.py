"""`python -m inversion_app`: the HTTP service; see inversion_app/program.py."""

import sys

from inversion_commands import api

if __name__ == "__main__":
    sys.exit(api())

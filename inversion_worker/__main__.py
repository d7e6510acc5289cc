"""`python -m inversion_worker`: a worker process; see inversion_worker/program.py."""

import sys

from inversion_commands import worker

if __name__ == "__main__":
    sys.exit(worker())

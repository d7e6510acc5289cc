"""`python -m worker`: a worker process, told everything by INVERSION_ variables (see settings.py)."""

from __future__ import annotations

import sys

from worker.bootstrap import run
from worker.core_backend import load
from worker.settings import WorkerSettings

if __name__ == "__main__":
    sys.exit(run(WorkerSettings(), load))

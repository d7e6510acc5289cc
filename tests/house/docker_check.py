"""`make docker-check`: on a Docker engine where one answers, else without: the stages and the extras in clean venvs."""

from __future__ import annotations

import sys

import engine_check
import run_extras
import run_stages


def main() -> int:
    if engine_check.engine_answers():
        return engine_check.main(sys.argv[1:])
    print("No Docker engine answers: the stages of the Dockerfile run in virtual environments instead.", flush=True)
    run_extras.main()
    run_stages.main()
    return 0


if __name__ == "__main__":
    sys.exit(main())

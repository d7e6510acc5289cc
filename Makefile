# Everything a person types. `make help` lists it; nothing here needs root.

# Set on the command line (make serve PORT=8123); the environment does not change them.
PYTHON = python3
HOST = 127.0.0.1
PORT = 8000
ARGS =
DOCKER_BUILD_ARGS =

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install serve test load check format constraints docker-check wheel pack-archives

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

install: $(STAMP)  ## make .venv and install everything into it (the others do this by themselves)

serve: $(STAMP)  ## Valkey, one worker and the API on http://HOST:PORT until Ctrl-C [PORT=8000 HOST=127.0.0.1]
	@exec $(BIN)/python -m inversion_app.serve --stop-with-parent --host '$(HOST)' --port '$(PORT)' $(ARGS)

test: $(STAMP)  ## run the tests [ARGS="-k alignment"]
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadgroup $(ARGS)

load: $(STAMP)  ## 50 clients at once on two API processes and two workers; fails where an event is lost
	@OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python tests/integration/load.py $(ARGS)

check: $(STAMP)  ## ruff, mypy --strict and the import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy --strict -p inversion_app -p inversion_worker -p inversion_core -p inversion_client -p inversion_pictures -p inversion_commands
	@$(BIN)/lint-imports

format: $(STAMP)  ## rewrite the code as ruff would have it
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

constraints: $(STAMP)  ## write constraints.txt anew from what .venv holds
	@{ echo '# The versions that work together; made by "make constraints", used by make and the Dockerfile.'; \
	  $(BIN)/python -m pip freeze --exclude-editable | sed 's/+.*//'; } > constraints.new
	@mv constraints.new constraints.txt
	@touch $(STAMP)

docker-check: $(STAMP)  ## build both images and put a deployment to the test; without an engine, what can be without [DOCKER_BUILD_ARGS="--network host"]
	@$(BIN)/python tests/house/docker_check.py --build-args='$(DOCKER_BUILD_ARGS)'

wheel: $(STAMP)  ## dist/*.whl: the program, its client and the small pack
	@rm -rf build dist/stylegan_inversion-*.whl  # what lies in build/ would go in, also what is no more
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

pack-archives: $(STAMP)  ## dist/NAME-VERSION.zip of each pack, for a release
	@mkdir -p dist
	@for pack in packs/faces-128 packs/comparison/*; do $(BIN)/inversion pack archive ./$$pack --out dist --overwrite || exit 1; done

# The stamp is younger than both files as long as .venv holds what they ask for.
$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is not there. Install Python 3.11 or newer, or name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $(PYTHON) is older than 3.11. Name a newer one: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); echo "make: $(PYTHON) cannot make a virtual environment. On Debian its parts come apart: apt-get install python3-venv (as root), or name a complete Python: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Installing into $(VENV); the first time takes a minute or more ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

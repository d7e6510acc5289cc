"""docker-compose.yml, as Compose reads it: what must hold, and that it fits the Dockerfile and our settings."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from inversion_app.settings import AppSettings
from inversion_core.packs.places import PATH_VARIABLE
from inversion_worker.settings import ClientSettings, WorkerSettings

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("app", "worker", "worker-gpu")


def known_settings(service: str) -> set[str]:
    """Names of the variables that the service's settings classes read."""
    classes = (AppSettings, ClientSettings) if service == "app" else (WorkerSettings,)
    return {f"INVERSION_{field.upper()}" for each in classes for field in each.model_fields}


def default_of(value: object) -> str:
    """What Compose makes of `${NAME:-default}` and `${NAME-default}` where NAME is not set."""
    return re.sub(r"\$\{\w+:?-([^}]*)\}", r"\1", str(value))


def test_services_and_profiles() -> None:
    assert set(SERVICES) == {*OURS, "valkey"}
    assert {name: each["profiles"] for name, each in SERVICES.items() if "profiles" in each} == {"worker-gpu": ["gpu"]}


@pytest.mark.parametrize("name", OURS)
def test_environment_is_what_the_settings_read(name: str) -> None:
    environment = SERVICES[name]["environment"]
    assert {"INVERSION_REDIS_URL", "INVERSION_ARTIFACTS_URL"} <= set(environment)
    assert {each for each in environment if not each.startswith("AWS_")} - {PATH_VARIABLE} <= known_settings(name)


@pytest.mark.parametrize(("name", "settings"), [("app", AppSettings), ("worker", WorkerSettings)])
def test_default_values_are_valid(name: str, settings: type[AppSettings | WorkerSettings]) -> None:
    environment = SERVICES[name]["environment"]
    values = {
        key.removeprefix("INVERSION_").lower(): default_of(value)
        for key, value in environment.items()
        if value is not None
    }
    settings.model_validate({key: value for key, value in values.items() if key in settings.model_fields})


@pytest.mark.parametrize("name", OURS)
def test_built_from_a_stage_of_the_dockerfile(name: str) -> None:
    build = SERVICES[name]["build"]
    stages = re.findall(r"^FROM \S+ AS (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert build["context"] == "."
    assert build["target"] in stages


@pytest.mark.parametrize("name", OURS)
def test_shared_store_and_order_of_start(name: str) -> None:
    service = SERVICES[name]
    assert service["depends_on"] == {"valkey": {"condition": "service_healthy"}}
    mounts = dict(volume.split(":")[:2] for volume in map(default_of, service["volumes"]))
    assert default_of(service["environment"]["INVERSION_ARTIFACTS_URL"]) == f"file://{mounts['artifacts']}"
    assert f"INVERSION_ARTIFACTS_URL=file://{mounts['artifacts']}" in (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize("name", ["worker", "worker-gpu"])
def test_workers_read_packs_of_a_folder_here(name: str) -> None:
    service = SERVICES[name]
    (mount,) = [volume for volume in service["volumes"] if "PACKS_DIR" in volume]
    assert default_of(mount) == f"./var/packs:{service['environment'][PATH_VARIABLE]}:ro"
    assert service["environment"]["INVERSION_DEFAULT_PACK"] is None, "Compose hands its own on, where there is one"


def test_every_named_volume_is_declared() -> None:
    used = {default_of(volume).split(":", 1)[0] for service in SERVICES.values() for volume in service["volumes"]}
    assert {name for name in used if not name.startswith(".")} == set(COMPOSE["volumes"])


def valkey_script() -> str:
    """What its shell reads, after Compose has taken one of each two dollars."""
    shell, option, script = SERVICES["valkey"]["command"]
    assert [shell, option] == ["sh", "-c"]
    return str(script).replace("$$", "$")


def test_valkey_forgets_nothing() -> None:
    words = shlex.split(valkey_script().partition("<<END")[0].replace("\\\n", " "))
    options = dict(zip(words[3::2], words[4::2], strict=True))
    assert words[:3] == ["exec", "valkey-server", "-"]
    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "noeviction"
    assert options["--protected-mode"] == "no", "without a password it would shut our own containers out"
    assert SERVICES["valkey"]["volumes"] == ["valkey:/data"]
    assert "ports" not in SERVICES["valkey"]  # only our own containers reach it


@pytest.mark.parametrize("password", ["", "plain", 'a "b" \\ c\'d $HOME $(id) `id` \\n %s'])
def test_valkey_takes_any_password_and_its_command_line_does_not_show_it(tmp_path: Path, password: str) -> None:
    (tmp_path / "valkey-server").write_text('#!/bin/sh\necho "$*"; cat\n')
    (tmp_path / "valkey-server").chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "VALKEY_PASSWORD": password}
    said = subprocess.run(["sh", "-c", valkey_script()], env=env, capture_output=True, text=True, check=True).stdout
    arguments, line = said.splitlines()
    assert "requirepass" not in arguments
    escaped = password.replace("\\", "\\\\").replace('"', '\\"')
    assert line == f'requirepass "{escaped}"'


def test_the_password_is_the_same_on_both_sides() -> None:
    password = "${VALKEY_PASSWORD:-}"
    assert SERVICES["valkey"]["environment"] == {"VALKEY_PASSWORD": password, "REDISCLI_AUTH": password}
    assert all(SERVICES[name]["environment"]["INVERSION_REDIS_PASSWORD"] == password for name in OURS)


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_hardened_and_limited(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"]
    assert service["tmpfs"] == ["/tmp"]
    assert service["init"]
    assert service["restart"] == "unless-stopped"
    assert default_of(service["mem_limit"])[-1] == "g"
    assert service["stop_grace_period"] in ("15s", "30s")
    assert service["logging"]["driver"] == "json-file"
    assert {"max-size", "max-file"} == set(service["logging"]["options"])


@pytest.mark.parametrize("name", OURS)
def test_one_variable_each_for_a_server_and_a_bucket_elsewhere(name: str) -> None:
    environment = SERVICES[name]["environment"]
    assert environment["INVERSION_REDIS_URL"].startswith("${INVERSION_REDIS_URL:-")
    assert environment["INVERSION_ARTIFACTS_URL"].startswith("${INVERSION_ARTIFACTS_URL:-")
    credentials = {each: value for each, value in environment.items() if each.startswith("AWS_")}
    assert "AWS_ACCESS_KEY_ID" in credentials
    assert set(credentials.values()) == {None}, "Compose hands its own on, where there are any"


def test_every_variable_has_one_default() -> None:
    """docker-compose 1.29 reads no default within a default."""
    text = (ROOT / "docker-compose.yml").read_text()
    assert re.findall(r"\$\{[^}]*\$\{", text) == []
    defaults: dict[str, set[str]] = {}
    for name, default in re.findall(r"\$\{(\w+):?-([^}]*)\}", text):
        defaults.setdefault(name, set()).add(default)
    assert {name: values for name, values in defaults.items() if len(values) > 1} == {}


def test_the_worker_on_the_cpu_is_built_without_cuda() -> None:
    assert "/whl/cpu" in default_of(SERVICES["worker"]["build"]["args"]["TORCH_INDEX"])
    assert "args" not in SERVICES["worker-gpu"]["build"]
    assert SERVICES["worker"]["image"] != SERVICES["worker-gpu"]["image"]


def test_api_listens_on_this_machine_alone_by_default() -> None:
    assert [default_of(port) for port in SERVICES["app"]["ports"]] == ["127.0.0.1:8000:8000"]


def test_gpu_worker_reserves_a_gpu_and_the_default_one_none() -> None:
    (device,) = SERVICES["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert SERVICES["worker-gpu"]["environment"]["INVERSION_DEVICE"] == "cuda"
    assert "deploy" not in SERVICES["worker"]
    assert SERVICES["worker"]["environment"]["INVERSION_DEVICE"] == "cpu"

"""The embedded server: private, durable, and never two on one folder."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from privacy import careless_umask, open_to_others
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from inversion_worker.errors import ServerUnavailable
from inversion_worker.valkey import EmbeddedValkey

pytestmark = pytest.mark.integration


def test_data_survives_a_restart(tmp_path: Path) -> None:
    for turn in range(2):
        with EmbeddedValkey(tmp_path / "data") as server, Redis.from_url(server.url) as redis:
            assert redis.incr("starts") == turn + 1


def test_it_is_durable_private_and_refuses_to_forget(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path) as server, Redis.from_url(server.url) as redis:
        wanted = {"appendonly": "yes", "maxmemory-policy": "noeviction", "port": "0"}
        assert {name: redis.config_get(name)[name] for name in wanted} == wanted
        socket = Path(server.url.removeprefix("unix://"))
        assert stat.S_IMODE(socket.stat().st_mode) == 0o700
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    assert not socket.parent.exists()


def test_no_other_user_can_read_its_files(tmp_path: Path) -> None:
    """Also in a folder that was open to everybody before."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o755)
    with careless_umask(), EmbeddedValkey(folder) as server, Redis.from_url(server.url) as redis:
        redis.set("secret", "whsec_")
        redis.bgrewriteaof()
    assert len(list(folder.rglob("*.aof"))) >= 1
    assert open_to_others(folder) == []


def test_a_second_one_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path) as first:
        with pytest.raises(ServerUnavailable, match="Another Valkey already uses"):
            EmbeddedValkey(tmp_path).start()
        assert first.is_running()
    with EmbeddedValkey(tmp_path):
        pass


def command(folder: Path) -> subprocess.Popen[str]:
    """`python -m inversion_worker.valkey` on that folder."""
    arguments = [sys.executable, "-m", "inversion_worker.valkey", "--dir", str(folder)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_command_prints_its_address_and_ends_on_sigterm(tmp_path: Path) -> None:
    with command(tmp_path) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with Redis.from_url(url) as redis:
            assert redis.ping()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        with pytest.raises(RedisConnectionError), Redis.from_url(url) as redis:
            redis.ping()


def test_the_command_says_why_it_cannot_start(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path), command(tmp_path) as process:
        _, errors = process.communicate(timeout=20)
        assert process.returncode == 1
        assert "Another Valkey already uses" in errors
        assert "Traceback" not in errors


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent is gone")
def test_a_killed_parent_leaves_no_server_behind(tmp_path: Path) -> None:
    with command(tmp_path) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        os.kill(process.pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                with EmbeddedValkey(tmp_path) as server:
                    assert server.url != url
                return
            except ServerUnavailable:
                time.sleep(0.1)
        pytest.fail("the server still holds its folder")

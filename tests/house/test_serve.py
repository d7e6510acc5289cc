"""inversion-serve: what it says to a person, what its children inherit; then the real thing."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest
from privacy import careless_umask, open_to_others
from running_service import children_of, free_port, read_until, service, status_of, wait_gone

from inversion_app import serve


@pytest.mark.unit
def test_port_in_use_names_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert serve.main(["--port", str(port)]) == 1
    said = capsys.readouterr().err
    assert f"port {port} is in use" in said
    assert f"make serve PORT={port + 1}" in said


@pytest.mark.unit
def test_address_of_another_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert serve.main(["--host", "192.0.2.1"]) == 1
    assert "cannot listen on 192.0.2.1:8000" in capsys.readouterr().err


@pytest.mark.unit
@pytest.mark.parametrize("port", ["0", "65536", "eight"])
def test_no_such_port(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        serve.main(["--port", port])
    assert exit_info.value.code == 2
    assert "--port" in capsys.readouterr().err


@pytest.mark.unit
def test_each_port_has_a_folder_of_its_own() -> None:
    folders = [serve.parse_args(["--port", str(port)])[0].state_dir for port in (8000, 8123)]
    assert [str(folder.relative_to(Path.cwd())) for folder in folders] == ["var/8000", "var/8123"]


@pytest.mark.unit
@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:8000"), ("0.0.0.0", "http://127.0.0.1:8000"), ("::", "http://[::1]:8000")],
)
def test_address_that_a_browser_can_open(host: str, url: str) -> None:
    assert serve.ServeOptions(host=host).url == url


@pytest.mark.unit
def test_settings_of_the_person_win(tmp_path: Path) -> None:
    options = serve.ServeOptions(state_dir=tmp_path)
    env = serve.child_environment(options, {"INVERSION_ARTIFACTS_URL": "s3://bucket", "INVERSION_LOG_LEVEL": ""})
    assert env["INVERSION_ARTIFACTS_URL"] == "s3://bucket"
    assert env["INVERSION_LOG_LEVEL"] == "WARNING"
    assert serve.child_environment(options, {})["INVERSION_ARTIFACTS_URL"] == f"file://{tmp_path}/artifacts"


@pytest.mark.unit
@pytest.mark.parametrize(
    ("host", "auth"), [("127.0.0.1", None), ("::1", None), ("localhost", None), ("0.0.0.0", "on"), ("::", "on")]
)
def test_keys_are_asked_for_as_soon_as_others_can_reach_it(host: str, auth: str | None) -> None:
    options = serve.ServeOptions(host=host)
    assert serve.child_environment(options, {}).get("INVERSION_AUTH") == auth
    assert serve.child_environment(options, {"INVERSION_AUTH": "off"})["INVERSION_AUTH"] == "off"


@pytest.mark.unit
def test_what_was_open_to_other_users_is_closed(tmp_path: Path) -> None:
    """Files from before; but nothing that is not the service's own, also where a link leads to it."""
    options = serve.ServeOptions(state_dir=tmp_path / "state")
    with careless_umask():
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir(mode=0o755)
        (options.state_dir / "artifacts" / "job").mkdir(parents=True, mode=0o755)
        (options.state_dir / "artifacts" / "job" / "upload").write_bytes(b"face")
        (options.state_dir / "artifacts" / "link").symlink_to(elsewhere)
        (options.state_dir / "valkey" / "appendonlydir").mkdir(parents=True, mode=0o755)
        (options.state_dir / "valkey" / "appendonlydir" / "a.aof").write_bytes(b"whsec_")
        for path in (options.note_path, options.token_files.token, options.token_files.curl):
            path.write_text("a secret")
        (options.state_dir / "holiday.jpg").write_bytes(b"")
        serve.keep_private(options)
        assert os.umask(0o077) == 0o077
    assert all(open_to_others(path) == [] for path in options.kept)
    assert (options.state_dir / "holiday.jpg").stat().st_mode & 0o077
    assert elsewhere.stat().st_mode & 0o077


@pytest.mark.integration
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serves_until_it_is_asked_to_stop(tmp_path: Path, number: signal.Signals) -> None:
    port = free_port()
    with service(tmp_path, port) as process:
        said = read_until(process, "ready:")
        assert f"http://127.0.0.1:{port}" in said
        assert status_of(port, "/readyz") == 200
        assert status_of(port, "/") == 200
        children = children_of(process.pid)
        assert len(children) >= 4  # valkey's keeper, valkey, worker, api
        assert open_to_others(tmp_path) == []
        token = (tmp_path / "token").read_text().strip()
        assert f"http://127.0.0.1:{port}/#token={token} " in said
        assert status_of(port, "/v1/packs") == 401
        assert status_of(port, "/v1/packs", Authorization=f"Bearer {token}") == 200
        process.send_signal(number)
        assert process.wait(30) == 0
        assert wait_gone(children, 1) == set()
    assert (tmp_path / "valkey").is_dir()
    assert not (tmp_path / "stylegan-inversion" / str(port)).is_symlink()


@pytest.mark.integration
def test_nothing_is_left_when_it_is_killed_and_it_starts_again(tmp_path: Path) -> None:
    port = free_port()
    with service(tmp_path, port) as process:
        read_until(process, "ready:")
        children = children_of(process.pid)
        process.kill()
        process.wait(10)
        assert wait_gone(children) == set()
    with service(tmp_path, port) as process:
        read_until(process, "ready:")


@pytest.mark.integration
def test_a_dead_child_stops_the_rest(tmp_path: Path) -> None:
    with service(tmp_path, free_port()) as process:
        read_until(process, "ready:")
        children = children_of(process.pid)
        (worker,) = [pid for pid in children if b"-m\0inversion_worker\0" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(worker, signal.SIGKILL)
        read_until(process, "worker was ended by SIGKILL")
        assert process.wait(30) == 1
        assert wait_gone(children, 1) == set()


@pytest.mark.integration
def test_second_service_on_the_same_folder_says_so(tmp_path: Path) -> None:
    with service(tmp_path, free_port()) as first:
        read_until(first, "ready:")
        with service(tmp_path, free_port()) as second:
            said = read_until(second, "valkey ended with exit status 1")
            assert "choose another data folder" in said
            assert second.wait(30) == 1
        assert first.poll() is None

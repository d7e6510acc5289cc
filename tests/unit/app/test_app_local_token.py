"""The token of `make serve` as it lies on the disk, and how our client finds it there."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from privacy import careless_umask, open_to_others

from inversion_app.local_token import VARIABLE, TokenFiles, notes_folder
from inversion_app.serve import ServeOptions, child_environment, takes_token
from inversion_client.connection import KEY_VARIABLE, http_arguments, local_token

pytestmark = pytest.mark.unit


@pytest.fixture
def files(tmp_path: Path) -> TokenFiles:
    (tmp_path / "state").mkdir()
    return TokenFiles(state_dir=tmp_path / "state", port=8123)


def test_it_is_made_once_and_nobody_else_reads_it(files: TokenFiles) -> None:
    with careless_umask():
        token = files.prepare({})
    assert len(token) >= 43
    assert files.prepare({}) == token
    assert open_to_others(files.token) == open_to_others(files.curl) == []
    assert files.curl.read_text() == f'header = "Authorization: Bearer {token}"\n'


@pytest.mark.parametrize("held", ["", "short", "two words that are long enough to be a token", "é" * 40])
def test_what_is_no_token_is_made_anew(files: TokenFiles, held: str) -> None:
    files.token.write_text(held)
    assert files.prepare({}) != held
    assert files.prepare({}) == files.token.read_text().strip()


def test_one_of_the_environment_wins(files: TokenFiles) -> None:
    assert files.prepare({VARIABLE: "e" * 40}) == "e" * 40
    assert files.token.read_text() == "e" * 40 + "\n"


@pytest.mark.parametrize(
    ("host", "auth", "takes"),
    [("127.0.0.1", None, True), ("0.0.0.0", None, False), ("127.0.0.1", "on", False), ("127.0.0.1", "off", False)],
)
def test_where_keys_are_asked_for_there_is_none(tmp_path: Path, host: str, auth: str | None, takes: bool) -> None:
    env = child_environment(ServeOptions(host=host, state_dir=tmp_path), {"INVERSION_AUTH": auth} if auth else {})
    assert takes_token(env) is takes


def test_our_client_finds_it_while_the_service_runs(files: TokenFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    home = files.state_dir.parent / "home"
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    token = files.prepare({})
    notes = notes_folder({"XDG_STATE_HOME": str(home)})
    for _ in range(2):  # also where a killed one has left its note
        with files.announced({"XDG_STATE_HOME": str(home)}):
            for url in ("http://127.0.0.1:8123", "http://localhost:8123", "http://[::1]:8123/"):
                assert http_arguments(url, None, 1)["headers"]["Authorization"] == f"Bearer {token}"
            for other in ("http://127.0.0.1:8124", "http://service.example:8123", "http://10.0.0.5:8123"):
                assert "Authorization" not in http_arguments(other, None, 1)["headers"]
            assert "Authorization" not in http_arguments("http://127.0.0.1:8123", "", 1)["headers"]
            monkeypatch.setenv(KEY_VARIABLE, "inv_1")
            assert http_arguments("http://127.0.0.1:8123", None, 1)["headers"]["Authorization"] == "Bearer inv_1"
            monkeypatch.delenv(KEY_VARIABLE)
        assert local_token(httpx.URL("http://127.0.0.1:8123")) == ""
        (notes / "8123").symlink_to(files.state_dir / "gone")


def test_a_home_that_cannot_be_written_to_is_no_obstacle(files: TokenFiles) -> None:
    (files.state_dir.parent / "file").write_text("")
    with files.announced({"XDG_STATE_HOME": str(files.state_dir.parent / "file")}):
        pass


def test_another_service_keeps_its_note(files: TokenFiles, tmp_path: Path) -> None:
    """Where a second one has taken over the port."""
    env = {"XDG_STATE_HOME": str(tmp_path / "home")}
    link = notes_folder(env) / "8123"
    with files.announced(env):
        link.unlink()
        link.symlink_to(tmp_path / "other")
    assert link.readlink() == tmp_path / "other"

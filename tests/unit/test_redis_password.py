"""INVERSION_REDIS_PASSWORD: a password beside the address, in whatever characters it comes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from inversion_worker.broker import make_celery
from inversion_worker.settings import ClientSettings

pytestmark = pytest.mark.unit

PRINTABLE = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=30)


def settings(url: str, password: str | None) -> ClientSettings:
    return ClientSettings(redis_url=url, redis_password=password)


@given(PRINTABLE)
def test_both_libraries_get_the_password_as_it_is(password: str) -> None:
    url = settings("redis://valkey:6379/1", password).redis_url
    pool = Redis.from_url(url).connection_pool
    assert (pool.connection_kwargs["host"], pool.connection_kwargs["db"]) == ("valkey", 1)
    assert pool.connection_kwargs["password"] == password
    connection = make_celery(url).connection()
    assert (connection.hostname, connection.password) == ("valkey", password)


@pytest.mark.parametrize("url", ["redis://me:mine@elsewhere/0", "rediss://:mine@elsewhere/0", "unix:///run/v.sock"])
def test_an_address_with_a_password_or_a_socket_stays(url: str) -> None:
    assert settings(url, "another").redis_url == url


@pytest.mark.parametrize("password", [None, ""])
def test_no_password(password: str | None) -> None:
    assert settings("redis://valkey/0", password).redis_url == "redis://valkey/0"


def test_it_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVERSION_REDIS_URL", "redis://valkey/0")
    monkeypatch.setenv("INVERSION_REDIS_PASSWORD", "p@ss")
    assert ClientSettings().redis_url == "redis://:p%40ss@valkey/0"

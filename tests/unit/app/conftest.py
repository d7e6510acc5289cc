"""The application around a fake job client, in an event loop of its own thread."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from app_fakes import FakeJobClient
from app_service import LIMIT_BYTES, Service, running
from pydantic import SecretStr

from inversion_app.settings import AppSettings
from inversion_app.signing import make_secret


@pytest.fixture(scope="session")
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal() as portal:
        yield portal


@pytest.fixture
def service(portal: BlockingPortal) -> Iterator[Service]:
    secret = SecretStr(make_secret())  # without one, webhooks are refused
    settings = AppSettings(webhook_secret=secret, max_upload_bytes=LIMIT_BYTES, retry_after_s=3, keep_alive_s=0.05)
    with running(portal, settings, FakeJobClient()) as service:
        yield service

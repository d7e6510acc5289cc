"""The application around a fake job client, for a server process: `uvicorn --factory fake_api:create`."""

from __future__ import annotations

from app_fakes import FakeJobClient
from app_keyring import Ring, stores_of
from fastapi import FastAPI

from inversion_app.main import create_app
from inversion_app.settings import AppSettings


def create() -> FastAPI:
    """Open, and with the limits that a service has where nobody says otherwise."""
    return create_app(AppSettings(auth="off"), FakeJobClient(), stores_of(Ring()))  # type: ignore[arg-type]  # the same methods

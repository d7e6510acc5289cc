"""Renders with a direction of a tenant's own: its step comes out of the artifact store, and the library moves along it."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping

import numpy as np
import pytest
import torch
from tiny import rough_pack

from inversion_worker.backend import Materials
from inversion_worker.contract import RenderAs, RenderOrder
from inversion_worker.core_backend import CoreBackend
from inversion_worker.errors import JobRefused
from inversion_worker.sources import SourceCode

pytestmark = pytest.mark.unit

STEP = np.random.default_rng(0).normal(size=(6, 12)).astype(np.float32)
W = np.zeros((6, 12), np.float32)


def npy(array: np.ndarray) -> bytes:  # type: ignore[type-arg]
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def backend() -> Iterator[CoreBackend]:
    backend = CoreBackend({"tiny": rough_pack()}, "tiny", "cpu")
    yield backend
    backend.close()


def edited(backend: CoreBackend, edit: Mapping[str, object], files: Mapping[str, bytes]) -> np.ndarray:  # type: ignore[type-arg]
    order = RenderOrder(
        pack="tiny",
        source={"sent": True},
        edits=[dict(edit)],
        directions={"smirk": "id/direction.npy"},
        kind=RenderAs.LATENTS,
    )
    materials = Materials(sent=SourceCode(w_LD=W).to_bytes(), read=files.get, is_wanted=lambda: True)
    _, data = backend.render(order, materials)
    return SourceCode.from_bytes(data).w_LD


def test_a_move(backend: CoreBackend) -> None:
    moved = edited(backend, {"direction": "smirk", "strength": 2}, {"id/direction.npy": npy(STEP)})
    np.testing.assert_allclose(moved, 2 * STEP, rtol=1e-6)
    assert not torch.is_inference_mode_enabled()


def test_one_that_is_gone_and_one_of_another_shape() -> None:
    other = CoreBackend({"tiny": rough_pack()}, "tiny", "cpu")  # nothing is kept in it yet
    for files in ({}, {"id/direction.npy": npy(STEP[:2])}):
        with pytest.raises(JobRefused) as refusal:
            edited(other, {"direction": "smirk", "strength": 2}, files)
        assert refusal.value.problem.type == "/problems/option-invalid"
    other.close()

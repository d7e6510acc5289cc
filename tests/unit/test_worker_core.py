"""The library behind the worker's interface: start codes, masks, digests and the face pasted back, on a tiny pack."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from drawn_face import draw_face
from PIL import Image, ImageDraw
from tiny import rough_pack

from inversion_core.faces import crop_mask
from inversion_worker.backend import Before, Extras, Prepared
from inversion_worker.code import Code
from inversion_worker.contract import FaceInfo, JobOptions, StartKind
from inversion_worker.core_backend import CoreBackend, CorePrepared, mask_tensor, start_latent
from inversion_worker.errors import JobRefused
from inversion_worker.frames import png

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def backend() -> Iterator[CoreBackend]:
    backend = CoreBackend({"tiny": rough_pack()}, "tiny", "cpu")
    yield backend
    backend.close()


def photo(size: tuple[int, int] = (120, 96)) -> bytes:
    image = Image.linear_gradient("L").resize(size).convert("RGB")
    ImageDraw.Draw(image).ellipse((30, 20, 80, 70), fill="red")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def prepared(backend: CoreBackend, extras: Extras, **options: Any) -> Prepared:
    return backend.prepare(photo(), JobOptions(align=False, steps=3, **options), extras)


def test_a_job_begins_at_the_code_that_came_along(backend: CoreBackend) -> None:
    code = np.random.default_rng(0).normal(size=(6, 12)).astype(np.float32)
    job = prepared(backend, Extras(start=Code(w_LD=code)), start=StartKind.LATENTS)
    steps = list(job.steps())
    np.testing.assert_allclose(steps[0].code().w_LD, code, rtol=1e-6)
    assert steps[3].loss < steps[0].loss
    resumed = list(job.steps(Before(checkpoint=steps[1].checkpoint())))
    np.testing.assert_allclose(resumed[-1].code().w_LD, steps[3].code().w_LD, rtol=1e-5)


def test_detail_comes_after_the_code_and_goes_on_as_a_start(backend: CoreBackend) -> None:
    job = prepared(backend, Extras(), detail_steps=2, detail_px=8)
    assert job.total_steps == 5
    steps = list(job.steps())
    assert [step.code().detail_CHW is not None for step in steps] == [False] * 3 + [True] * 3
    assert [step.index for step in job.steps(Before(checkpoint=steps[4].checkpoint()))] == [4, 5]
    end = steps[-1].code()
    assert np.abs(np.int16(job.render(end)) - np.int16(steps[-1].image())).max() <= 1
    options = JobOptions(align=False, detail_steps=1, start=StartKind.LATENTS)
    on = backend.prepare(photo(), options, Extras(start=Code.from_bytes(end.to_bytes())))
    assert on.total_steps == 1
    first, _ = on.steps()
    np.testing.assert_array_equal(first.code().w_LD, end.w_LD)
    assert first.loss == pytest.approx(steps[-1].loss, rel=1e-2)


@pytest.mark.parametrize(
    ("options", "words"), [({"detail_px": 64}, "this generator has 4, 8, 16"), ({"detail_px": 12}, "a power of two")]
)
def test_a_detail_that_cannot_be_is_refused(backend: CoreBackend, options: dict[str, int], words: str) -> None:
    with pytest.raises(JobRefused, match=words) as caught:
        prepared(backend, Extras(), detail_steps=1, **options)
    assert caught.value.problem.type == "/problems/option-invalid"


def test_a_detail_that_is_too_large_is_refused(backend: CoreBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inversion_worker.core_backend.MAX_DETAIL", 100)
    with pytest.raises(JobRefused, match="choose a smaller detail_px"):
        prepared(backend, Extras(), detail_steps=1, detail_px=8)


def test_a_photo_without_a_face_is_refused_with_the_services_option(backend: CoreBackend) -> None:
    with pytest.raises(JobRefused) as caught:
        backend.prepare(photo(), JobOptions(steps=3))
    assert caught.value.problem.type == "/problems/no-face-found"
    assert "align=false" in caught.value.problem.detail
    assert "--no-align" not in caught.value.problem.detail


@pytest.mark.parametrize("shape", [(6, 11), (5, 12), (1, 6, 12), (72,)])
def test_a_code_of_another_shape_is_refused(backend: CoreBackend, shape: tuple[int, ...]) -> None:
    with pytest.raises(JobRefused, match="shape") as caught:
        prepared(backend, Extras(start=Code(w_LD=np.zeros(shape, np.float32))), start=StartKind.LATENTS)
    assert caught.value.problem.type == "/problems/option-invalid"
    assert start_latent(rough_pack(), None) is None


def test_only_what_is_white_must_agree(backend: CoreBackend) -> None:
    mask = Image.new("L", (120, 96), 0)
    mask.paste(255, (0, 0, 60, 96))
    free, bound = prepared(backend, Extras()), prepared(backend, Extras(mask=mask))
    assert next(iter(bound.steps())).loss < next(iter(free.steps())).loss
    assert isinstance(bound, CorePrepared)
    assert bound.mask_HW is not None
    assert bound.mask_HW.shape == (16, 16)
    seen = bound.mask_HW
    assert torch.all(seen[:, :7] > 0.99)  # resampling rings a little
    assert torch.all(seen[:, 9:] < 0.01)


def test_a_mask_that_does_not_fit_is_refused(backend: CoreBackend) -> None:
    with pytest.raises(JobRefused, match="the same") as caught:
        prepared(backend, Extras(mask=Image.new("L", (96, 120), 255)))
    assert caught.value.problem.type == "/problems/mask-invalid"
    beside = Image.new("L", (120, 96), 0)
    beside.paste(255, (0, 0, 5, 96))  # the centre crop leaves this out
    with pytest.raises(JobRefused, match="black") as caught:
        prepared(backend, Extras(mask=beside))
    assert caught.value.problem.type == "/problems/mask-invalid"


def test_a_mask_is_cut_out_as_the_face_is_and_free_outside_the_photo() -> None:
    mask = Image.new("L", (100, 100), 0)
    mask.paste(255, (50, 0, 100, 100))
    quad = [(0.0, 0.0), (0.0, 100.0), (100.0, 100.0), (100.0, 0.0)]
    upright = Image.new("RGB", (100, 100))
    whole = mask_tensor(mask, upright, FaceInfo(found=1, quad=quad), 10)
    assert whole is not None
    torch.testing.assert_close(whole, torch.cat([torch.zeros(10, 5), torch.ones(10, 5)], dim=1))
    turned = np.array([(100.0, 0.0), (0.0, 0.0), (0.0, 100.0), (100.0, 100.0)])  # top left lies on the right
    assert np.asarray(crop_mask(mask, turned, 10))[:5].min() == 255
    beyond = np.array([(50.0, 0.0), (50.0, 100.0), (150.0, 100.0), (150.0, 0.0)])
    np.testing.assert_array_equal(np.asarray(crop_mask(mask, beyond, 10))[5], [255] * 5 + [0] * 5)


def test_the_face_is_pasted_back_only_where_one_was_looked_for(backend: CoreBackend) -> None:
    job = prepared(backend, Extras())
    assert isinstance(job, CorePrepared)
    assert job.pasted(Image.new("RGB", (16, 16), "lime")) is None
    quad = [(20.0, 10.0), (20.0, 70.0), (80.0, 70.0), (80.0, 10.0)]
    found = replace(job, framing=replace(job.framing, face=FaceInfo(found=1, quad=quad)))
    result = found.pasted(Image.new("RGB", (16, 16), "lime"))
    assert result is not None
    assert result.size == (120, 96)
    assert result.getpixel((50, 40)) == (0, 255, 0)
    assert result.getpixel((5, 5)) == Image.open(io.BytesIO(photo())).getpixel((5, 5))


def test_a_pack_that_was_never_saved_has_no_digest(backend: CoreBackend) -> None:
    (info,) = backend.packs()
    assert info.digest == ""
    assert prepared(backend, Extras()).pack_digest == ""


def two_faces() -> bytes:
    """A large drawn face on the left, a smaller one on the right, cut by the border."""
    picture = draw_face((480, 256), head_px=220, centre=(130, 128))
    picture.paste(draw_face((160, 160), head_px=150), (320, 50))
    return png(picture)


class TestFaces:
    def test_a_look_finds_all_of_them_and_a_job_the_same(self, backend: CoreBackend) -> None:
        seen = backend.look(two_faces())
        assert (seen.photo.width, seen.photo.height) == (480, 256)
        assert len(seen.faces) == 2
        assert all(face.score > 0.5 for face in seen.faces)
        job = backend.prepare(two_faces(), JobOptions(steps=1))
        assert (job.framing.seen, job.framing.face_index) == (seen, 0)
        assert job.framing.face is not None
        assert (job.framing.face.found, tuple(job.framing.face.quad or ())) == (2, seen.faces[0].quad)

    def test_a_face_is_chosen_by_its_number(self, backend: CoreBackend) -> None:
        first, second = (backend.prepare(two_faces(), JobOptions(steps=1, face=index)) for index in (0, 1))
        assert (first.framing.face_index, second.framing.face_index) == (0, 1)
        assert second.framing.face is not None
        assert tuple(second.framing.face.quad or ()) == second.framing.seen.faces[1].quad
        assert first.framing.seen == second.framing.seen
        assert first.aligned.tobytes() != second.aligned.tobytes()
        pasted = second.pasted(Image.new("RGB", (16, 16), "lime"))
        assert pasted is not None
        assert pasted.getpixel((400, 130)) == (0, 255, 0)
        assert pasted.getpixel((130, 128)) == Image.open(io.BytesIO(two_faces())).getpixel((130, 128))

    def test_its_quad_gives_the_same_crop(self, backend: CoreBackend) -> None:
        by_face = backend.prepare(two_faces(), JobOptions(steps=1, face=1))
        by_quad = backend.prepare(two_faces(), JobOptions(steps=1, quad=by_face.framing.seen.faces[1].quad))
        assert by_quad.aligned.tobytes() == by_face.aligned.tobytes()

    def test_one_that_is_not_there(self, backend: CoreBackend) -> None:
        with pytest.raises(JobRefused, match="There are 2 faces, 0 to 1") as caught:
            backend.prepare(two_faces(), JobOptions(steps=1, face=2))
        assert caught.value.problem.type == "/problems/no-such-face"
        assert backend.look(photo()).faces == []

    def test_a_quad_is_taken_as_it_is_and_nobody_looks(self, backend: CoreBackend) -> None:
        quad = ((20.0, 10.0), (10.0, 70.0), (80.0, 75.0), (80.0, 10.0))
        job = backend.prepare(photo(), JobOptions(steps=1, quad=quad))
        assert job.framing.face == FaceInfo(found=0, quad=list(quad))
        assert (job.framing.seen.faces, job.framing.face_index, list(job.framing.warnings)) == ([], None, [])
        assert isinstance(job, CorePrepared)
        pasted = job.pasted(Image.new("RGB", (16, 16), "lime"))
        assert pasted is not None
        assert pasted.getpixel((45, 40)) == (0, 255, 0)

    def test_a_quad_that_leaves_the_photo_is_told_and_one_beside_it_is_refused(self, backend: CoreBackend) -> None:
        job = backend.prepare(photo(), JobOptions(quad=((-90, 0), (-90, 96), (6, 96), (6, 0))))
        assert [(warning.kind, "6 %" in warning.detail) for warning in job.framing.warnings] == [("crop-outside", True)]
        with pytest.raises(JobRefused, match="beside") as caught:
            backend.prepare(photo(), JobOptions(quad=((-90, 0), (-90, 90), (0, 90), (0, 0))))
        assert caught.value.problem.type == "/problems/quad-invalid"

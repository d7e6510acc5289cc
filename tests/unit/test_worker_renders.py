"""Renders on a tiny pack: codes, edits, the way back into the photo; and what is kept in memory for a moment."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from tiny import rough_pack

from inversion_core.latents import Latent, detail_shape
from inversion_core.packs import Pack
from inversion_core.pictures import to_image
from inversion_worker.backend import Materials
from inversion_worker.code import Code
from inversion_worker.contract import ArtifactKey, PasteMode, PictureFormat, RenderAs, Rendered, RenderOrder
from inversion_worker.errors import JobRefused
from inversion_worker.found import Found
from inversion_worker.frames import png
from inversion_worker.kept import Kept
from inversion_worker.rendering import Renderer, code_of, fitting, latent_of, middle
from inversion_worker.sources import SourceCode, stored_code

pytestmark = pytest.mark.unit

JOB, OTHER = "a" * 32, "b" * 32
QUAD = ((20.0, 10.0), (20.0, 60.0), (70.0, 60.0), (70.0, 10.0))
PHOTO = np.random.default_rng(0).integers(0, 256, (80, 120, 3), dtype=np.uint8)
CODE = np.random.default_rng(1).normal(size=(6, 12)).astype(np.float32)


@pytest.fixture(scope="module")
def pack() -> Pack:
    return rough_pack()


class Store:
    """Files by key, and which were read."""

    def __init__(self) -> None:
        self.files = {
            ArtifactKey.photo(JOB): png(Image.fromarray(PHOTO)),
            ArtifactKey.latents(JOB): Code(w_LD=CODE).npy(),
            ArtifactKey.latents(OTHER): Code(w_LD=-CODE).npy(),
        }
        self.seen: list[str] = []

    def read(self, key: str) -> bytes | None:
        self.seen.append(key)
        return self.files.get(key)


@pytest.fixture
def store() -> Store:
    return Store()


class Asks:
    """A renderer with a store behind it."""

    def __init__(self, pack: Pack, store: Store) -> None:
        self.renderer = Renderer({"tiny": pack})
        self.store = store
        self.is_wanted = True

    def __call__(self, *, sent: bytes = b"", **order: Any) -> tuple[Rendered, bytes]:
        fields: dict[str, Any] = {"pack": "tiny", "source": {"inversion": JOB}, "ended": {JOB: True, OTHER: True}}
        materials = Materials(sent=sent, read=self.store.read, is_wanted=lambda: self.is_wanted)
        return self.renderer.render(RenderOrder.model_validate(fields | {"quad": QUAD} | order), materials)

    def picture(self, **order: Any) -> NDArray[np.int16]:
        told, data = self(**order)
        picture = Image.open(io.BytesIO(data))
        assert picture.size == (told.width, told.height)
        return np.asarray(picture).astype(np.int16)


@pytest.fixture
def asks(pack: Pack, store: Store) -> Asks:
    return Asks(pack, store)


class TestFace:
    def test_without_edits_it_is_the_generators_picture(self, asks: Asks, pack: Pack) -> None:
        expected = np.asarray(to_image(pack.synthesize(torch.from_numpy(CODE)[None])), np.int16)
        assert np.abs(asks.picture() - expected).max() <= 1

    @pytest.mark.parametrize("format", PictureFormat)
    def test_every_format_and_side(self, asks: Asks, format: PictureFormat) -> None:
        told, data = asks(format=format, side=40)
        assert (told.width, told.height, told.pack) == (40, 40, "tiny")
        assert Image.open(io.BytesIO(data)).format == format.name

    def test_an_edit_and_a_mix(self, asks: Asks) -> None:
        truncated = asks.picture(edits=[{"truncate": 0.5}])
        assert not np.array_equal(truncated, asks.picture())
        mixed = asks.picture(edits=[{"mix": {"inversion": OTHER}}])
        assert np.array_equal(mixed, asks.picture(source={"inversion": OTHER}))
        assert np.array_equal(asks.picture(edits=[{"mix": {"latents": (-CODE).tolist()}}]), mixed)

    def test_a_seed_is_the_same_face_always(self, asks: Asks) -> None:
        first, again, other = (asks.picture(source={"seed": seed}) for seed in (7, 7, 8))
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)
        assert np.array_equal(asks.picture(edits=[{"mix": {"seed": 7}}]), first)

    def test_the_code_after_the_edits(self, asks: Asks) -> None:
        _, data = asks(kind=RenderAs.LATENTS, edits=[{"mix": {"inversion": OTHER}, "amount": 0.5}])
        assert np.abs(SourceCode.from_bytes(data).w_LD).max() < 1e-6

    def test_a_code_that_is_sent_with_its_detail(self, asks: Asks, pack: Pack) -> None:
        shape = detail_shape(pack.manifest.generator, 8)
        detail_CHW = np.random.default_rng(2).normal(size=shape).astype(np.float32)
        sent = SourceCode(w_LD=CODE, detail_CHW=detail_CHW).to_bytes()
        with_detail = asks.picture(source={"sent": True}, sent=sent)
        assert not np.array_equal(with_detail, asks.picture())
        _, data = asks(source={"sent": True}, sent=sent, kind=RenderAs.LATENTS)
        found = SourceCode.from_bytes(data)
        assert found.detail_CHW is not None
        np.testing.assert_allclose(found.detail_CHW, detail_CHW, atol=2e-3)

    def test_the_best_so_far_is_read_anew_each_time(self, asks: Asks, store: Store) -> None:
        for step in (5, 6):
            found = Found(step=step, code=CODE * step, picture=None)
            store.files[ArtifactKey.best(JOB)] = found.to_bytes()
            told, data = asks(kind=RenderAs.LATENTS, ended={JOB: False})
            assert told.step == step
            np.testing.assert_array_equal(SourceCode.from_bytes(data).w_LD, CODE * step)

    @pytest.mark.parametrize(
        ("order", "slug", "told"),
        [
            ({"edits": [{"direction": "wings", "strength": 1}]}, "option-invalid", "wings"),
            ({"edits": [{"truncate": 0.5, "layers": [0, 20]}]}, "option-invalid", "layers"),
            ({"edits": [{"mix": {"inversion": "c" * 32}}]}, "result-not-available", "c" * 32),
            ({"source": {"inversion": "c" * 32}}, "result-not-available", "c" * 32),
            ({"source": {"sent": True}, "sent": b"x"}, "option-invalid", "not a code"),
            ({"source": {"sent": True}, "sent": SourceCode(w_LD=CODE[:2]).to_bytes()}, "option-invalid", "shape"),
        ],
    )
    def test_what_is_refused(self, asks: Asks, order: dict[str, Any], slug: str, told: str) -> None:
        from inversion_worker.core_backend import refusing

        with pytest.raises(JobRefused, match=told) as caught, refusing():
            asks(**order)
        assert caught.value.problem.type == f"/problems/{slug}"

    def test_another_generator(self, pack: Pack, store: Store) -> None:
        with pytest.raises(JobRefused, match="loaded") as caught:
            Asks(pack, store)(pack="other")
        assert caught.value.problem.type in ("/problems/pack-not-loaded",)


class TestPhoto:
    @pytest.mark.parametrize("paste", PasteMode)
    def test_only_the_crop_changes(self, asks: Asks, paste: PasteMode) -> None:
        photo = asks.picture(kind=RenderAs.PHOTO, edits=[{"mix": {"inversion": OTHER}}], paste=paste)
        assert photo.shape == PHOTO.shape
        changed = (photo != PHOTO).any(axis=-1)
        assert changed[10:60, 20:70].any()
        changed[10:60, 20:70] = False
        assert not changed.any()

    @settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(seeds=st.lists(st.integers(0, 99), max_size=3), layers=st.tuples(st.just(0), st.integers(0, 5)))
    def test_what_changes_nothing_gives_the_photo_back(
        self, asks: Asks, seeds: list[int], layers: tuple[int, int]
    ) -> None:
        edits = [{"mix": {"seed": seed}, "layers": layers, "amount": 0.0} for seed in seeds]
        edits.append({"truncate": 1.0})
        assert np.array_equal(asks.picture(kind=RenderAs.PHOTO, edits=edits), PHOTO)

    def test_a_patch_belongs_where_it_says(self, asks: Asks) -> None:
        edits = [{"mix": {"inversion": OTHER}}]
        told, data = asks(kind=RenderAs.PATCH, edits=edits)
        patch = Image.open(io.BytesIO(data))
        assert patch.mode == "RGBA"
        photo = Image.fromarray(PHOTO).convert("RGBA")
        photo.alpha_composite(patch, (told.left, told.top))
        whole = asks.picture(kind=RenderAs.PHOTO, edits=edits)
        assert np.array_equal(np.asarray(photo.convert("RGB"), np.int16), whole)

    def test_smaller_and_never_larger(self, asks: Asks) -> None:
        assert asks.picture(kind=RenderAs.PHOTO, side=60).shape == (40, 60, 3)
        assert asks.picture(kind=RenderAs.PHOTO, side=6000).shape == PHOTO.shape

    def test_without_a_quad_it_is_the_middle(self, asks: Asks) -> None:
        photo = asks.picture(kind=RenderAs.PHOTO, quad=None, edits=[{"mix": {"inversion": OTHER}}])
        changed = (photo != PHOTO).any(axis=-1)
        assert not changed[:, :20].any()
        assert not changed[:, 100:].any()
        assert changed.any()

    def test_the_next_one_reads_nothing_again(self, asks: Asks, store: Store) -> None:
        for strength in (0.5, 0.25, 0.75):
            asks(kind=RenderAs.PHOTO, edits=[{"truncate": strength}])
        assert sorted(store.seen) == sorted([ArtifactKey.latent(JOB), ArtifactKey.latents(JOB), ArtifactKey.photo(JOB)])

    def test_a_photo_that_is_gone(self, asks: Asks, store: Store) -> None:
        del store.files[ArtifactKey.photo(JOB)]
        with pytest.raises(JobRefused, match="gone"):
            asks(kind=RenderAs.PHOTO)

    def test_what_nobody_waits_for_is_dropped(self, asks: Asks) -> None:
        asks.is_wanted = False
        for kind in (RenderAs.FACE, RenderAs.PHOTO, RenderAs.PATCH):
            with pytest.raises(JobRefused) as caught:
                asks(kind=kind)
            assert caught.value.problem.type == "/problems/render-superseded"


def test_threads_make_the_same_pictures_with_one_thread_each(pack: Pack, store: Store) -> None:
    asks = Asks(pack, store)
    before = torch.get_num_threads()

    def one(seed: int) -> tuple[bytes, int]:
        return asks(source={"seed": seed % 4})[1], torch.get_num_threads()

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(one, range(32)))
    assert {threads for _, threads in found} == {1}
    assert len({data for data, _ in found}) == 4
    assert torch.get_num_threads() == before


def test_codes_to_and_fro() -> None:
    latent = Latent(w_BLD=torch.randn(1, 6, 12), detail_BCHW=torch.randn(1, 3, 4, 4))
    again = latent_of(SourceCode.from_bytes(code_of(latent).to_bytes()))
    assert again.detail_BCHW is not None
    assert latent.detail_BCHW is not None
    torch.testing.assert_close(again.w_BLD, latent.w_BLD)
    torch.testing.assert_close(again.detail_BCHW, latent.detail_BCHW, rtol=1e-3, atol=1e-3)  # half precision
    assert stored_code(lambda _: None, JOB, ended=True) is None
    assert stored_code(lambda _: None, JOB, ended=False) is None


def test_sizes() -> None:
    assert fitting((4000, 3000), 1024) == (1024, 768)
    assert fitting((3000, 10), 16) == (16, 1)
    assert middle((120, 80)).tolist() == [[20, 0], [20, 80], [100, 80], [100, 0]]


class TestKept:
    def test_made_once_and_for_a_while(self) -> None:
        now = [0.0]
        kept = Kept(100, 60, lambda: now[0])
        made: list[int] = []

        def make() -> tuple[int, int]:
            made.append(len(made))
            return made[-1], 40

        assert [kept.get("a", make) for _ in range(3)] == [0, 0, 0]
        now[0] = 50  # each use counts
        kept.get("a", make)
        now[0] = 105
        assert (kept.get("a", make), kept.bytes) == (0, 40)
        now[0] = 165.1
        assert kept.bytes == 0
        assert kept.get("a", make) == 1

    def test_the_oldest_goes_first(self) -> None:
        kept = Kept(100, 60)
        for key in ("a", "b", "a", "c"):
            kept.get(key, lambda key=key: (key, 40))  # type: ignore[misc]
        assert kept.bytes == 80
        assert kept.get("a", lambda: ("new", 40)) == "a"
        assert kept.get("b", lambda: ("new", 40)) == "new"
        assert kept.get("large", lambda: ("large", 1000)) == "large"
        assert kept.bytes == 0

    def test_a_failure_is_not_kept(self) -> None:
        kept = Kept(100, 60)

        def fail() -> tuple[str, int]:
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            kept.get("a", fail)
        assert kept.get("a", lambda: ("yes", 1)) == "yes"

    def test_many_who_want_the_same_wait_for_one(self) -> None:
        kept = Kept(100, 60)
        made: list[int] = []
        barrier = threading.Barrier(8)

        def make() -> tuple[int, int]:
            made.append(1)
            return 5, 1

        def want(_: int) -> int:
            barrier.wait(10)
            return kept.get("a", make)

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(want, range(8))) == [5] * 8
        assert made == [1]

    def test_what_nobody_asks_for_any_more_goes_by_itself(self) -> None:
        kept = Kept(100, 0.05)
        kept.get("a", lambda: ("a", 40))
        threading.Event().wait(0.4)
        assert not kept._entries

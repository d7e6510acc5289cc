"""Between latents and between edit lists, and films."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from inversion_core.editing import apply_edits, parse_edits, to_json
from inversion_core.editing.films import film
from inversion_core.editing.interpolation import WAYS, Way, between_edits, between_latents, edit_path, path, slerp
from inversion_core.errors import OptionInvalid
from inversion_core.latents import Latent
from tests.tiny import rough_pack

pytestmark = pytest.mark.unit

PACK = rough_pack()


def latent(seed: int, count: int = 1, px: int | None = 8) -> Latent:
    draw = torch.Generator().manual_seed(seed)
    w_BLD = PACK.mean_codes(count) + 0.5 * torch.randn(count, 6, 12, generator=draw)
    channels = {8: 12, 16: 8}
    detail_BCHW = None if px is None else torch.randn(count, channels[px], px, px, generator=draw)
    return Latent(w_BLD=w_BLD, detail_BCHW=detail_BCHW)


# -- between latents -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_the_ends_are_the_latents_to_the_bit(way: Way) -> None:
    one, other = latent(1), latent(2)
    for end, share in ((one, 0.0), (other, 1.0)):
        found = between_latents(PACK, one, other, share, way)
        assert torch.equal(found.w_BLD, end.w_BLD)
        assert found.detail_BCHW is not None
        assert end.detail_BCHW is not None
        assert torch.equal(found.detail_BCHW, end.detail_BCHW)


def test_linear_is_on_the_line() -> None:
    one, other = latent(1), latent(2)
    found = between_latents(PACK, one, other, 0.25)
    torch.testing.assert_close(found.w_BLD, 0.75 * one.w_BLD + 0.25 * other.w_BLD)


@settings(deadline=None)
@given(st.integers(0, 1000), st.floats(0, 1))
def test_an_arc_keeps_lengths_between_those_of_its_ends(seed: int, share: float) -> None:
    one, other = torch.randn(2, 1, 6, 12, generator=torch.Generator().manual_seed(seed))
    wanted = torch.lerp(one.norm(dim=-1), other.norm(dim=-1), share)
    torch.testing.assert_close(slerp(one, other, share).norm(dim=-1), wanted, rtol=1e-3, atol=1e-3)


def test_an_arc_between_parallel_vectors_is_the_line() -> None:
    one = torch.randn(1, 6, 12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(slerp(one, 2 * one, 0.5), 1.5 * one)
    torch.testing.assert_close(slerp(one, torch.zeros_like(one), 0.5), 0.5 * one)


def test_detail_of_one_fades_where_the_other_has_none() -> None:
    one, other = latent(1), latent(2, px=None)
    near, far = (between_latents(PACK, one, other, share).detail_BCHW for share in (0.1, 0.9))
    assert near is not None
    assert far is not None
    assert far.norm() < 0.3 * near.norm()


def test_a_path_goes_by_way_of_all() -> None:
    ends = [latent(seed, px=None) for seed in (1, 2, 3)]
    frames = list(path(PACK, ends, 5))
    assert len(frames) == 5
    for frame, end in zip(frames[::2], ends, strict=True):
        assert torch.equal(frame.w_BLD, end.w_BLD)


@pytest.mark.parametrize(
    ("codes", "frames", "words"),
    [(1, 5, "at least two codes; 1 given"), (3, 2, "frames is 2"), (2, 601, "from 2 to 600")],
)
def test_a_path_that_cannot_be_is_refused(codes: int, frames: int, words: str) -> None:
    with pytest.raises(OptionInvalid, match=words):
        list(path(PACK, [latent(seed) for seed in range(codes)], frames))


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(OptionInvalid, match="differs in size"):
        between_latents(PACK, latent(1, px=8), latent(2, px=16), 0.5)
    with pytest.raises(ValueError, match="1 and 2 images"):
        between_latents(PACK, latent(1), latent(2, count=2), 0.5)
    with pytest.raises(OptionInvalid, match="way is 'round'; there are linear, spherical"):
        between_latents(PACK, latent(1), latent(2), 0.5, "round")  # type: ignore[arg-type]


# -- between edit lists --------------------------------------------------------------------------------------

SMILE: dict[str, Any] = {"direction": "smile", "strength": 2.0}
AGE: dict[str, Any] = {"direction": "age", "strength": 1.0}
HALF: dict[str, Any] = {"truncate": 0.5}


@pytest.mark.parametrize(
    ("one", "other", "share", "expected"),
    [
        ([], [SMILE], 0.5, [{"direction": "smile", "strength": 1.0}]),
        ([SMILE], [], 0.25, [{"direction": "smile", "strength": 1.5}]),
        ([SMILE], [{"direction": "smile", "strength": -2.0}], 0.25, [{"direction": "smile", "strength": 1.0}]),
        ([SMILE, HALF], [AGE, HALF], 0.5,
         [{"direction": "smile", "strength": 1.0}, {"direction": "age", "strength": 0.5}, {"truncate": 0.5}]),
        ([HALF], [SMILE | {"layers": [0, 3]}], 0.5, [{"truncate": 0.75}, {"direction": "smile", "strength": 1.0, "layers": [0, 3]}]),
        ([SMILE], [SMILE | {"layers": [0, 3]}], 0, [SMILE, {"direction": "smile", "strength": 0.0, "layers": [0, 3]}]),
        ([{"mix": {"seed": 1}}], [{"mix": {"seed": 2}}], 0.5, [{"mix": {"seed": 1}, "amount": 0.5}, {"mix": {"seed": 2}, "amount": 0.5}]),
    ],
)  # fmt: skip
def test_strengths_are_interpolated(one: list[Any], other: list[Any], share: float, expected: list[Any]) -> None:
    assert to_json(between_edits(parse_edits(one), parse_edits(other), share)) == expected


def test_a_path_of_edits_begins_with_the_latent_itself() -> None:
    one, edits = latent(1), parse_edits([{"truncate": 0.2}])
    frames = list(edit_path(PACK, one, (), edits, 3))
    assert frames[0] is one
    assert torch.equal(frames[-1].w_BLD, apply_edits(PACK, one, edits).w_BLD)


# -- a mix carries detail ------------------------------------------------------------------------------------


def mixed(amount: float, layers: list[int] | None = None) -> Latent:
    edit: dict[str, Any] = {"mix": {"inversion": "x"}, "amount": amount} | ({"layers": layers} if layers else {})
    return apply_edits(PACK, latent(1), parse_edits([edit]), lambda code: latent(2))


def test_a_mix_of_all_has_the_others_detail() -> None:
    found, other = mixed(1.0), latent(2)
    assert found.detail_BCHW is not None
    assert other.detail_BCHW is not None
    torch.testing.assert_close(found.detail_BCHW, other.detail_BCHW)


def test_a_mix_of_colours_alone_keeps_the_own_detail() -> None:
    found, own, other = mixed(1.0, [5, 5]).detail_BCHW, latent(1).detail_BCHW, latent(2).detail_BCHW
    assert found is not None
    assert own is not None
    assert other is not None
    assert (found - own).norm() < (found - other).norm()


# -- films ---------------------------------------------------------------------------------------------------


def frames(count: int = 4, size: tuple[int, int] = (33, 30)) -> list[Image.Image]:
    return [Image.new("RGB", size, (40 * index, 255 - 40 * index, 90)) for index in range(count)]


@pytest.mark.parametrize("kind", ["webp", "gif"])
@pytest.mark.parametrize(("there_and_back", "expected"), [(False, 4), (True, 6)])
def test_an_animation_has_every_frame(kind: str, there_and_back: bool, expected: int) -> None:
    with Image.open(io.BytesIO(film(frames(), kind, 10, there_and_back=there_and_back))) as opened:
        assert opened.format == kind.upper()
        assert getattr(opened, "n_frames", 1) == expected
        assert opened.size == (33, 30)
        opened.seek(1)
        red, _, _ = opened.convert("RGB").getpixel((5, 5))  # type: ignore[misc]
        assert abs(red - 40) < 8
        assert opened.info["duration"] == 100
        assert opened.info["loop"] == 0


def test_mp4_has_every_frame_and_even_sides() -> None:
    av = pytest.importorskip("av")
    data = film(frames(), "mp4", 12.5)
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, float(stream.average_rate)) == (34, 30, 12.5)
        shown = [frame.to_image() for frame in container.decode(stream)]
    assert len(shown) == 4
    assert abs(shown[1].getpixel((5, 5))[0] - 40) < 12


def test_without_pyav_mp4_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(OptionInvalid, match=r"pip install 'stylegan-inversion\[film\]', or take webp"):
        film(frames(), "mp4")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [((frames(), "avi"), "cannot be 'avi'; there are webp, gif, mp4"), ((frames(), "gif", 0.5), "fps is 0.5"),
     (([], "webp"), "at least one frame"), (([*frames(), *frames(size=(8, 8))], "webp"), "all of one size")],
)  # fmt: skip
def test_a_film_that_cannot_be_is_refused(arguments: Any, words: str) -> None:
    with pytest.raises(OptionInvalid, match=words):
        film(*arguments)

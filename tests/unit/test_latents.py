"""Latents: W+ with and without detail, rendered, checked, batched, saved."""

from __future__ import annotations

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from inversion_core.errors import PackInvalid
from inversion_core.latents import (
    Latent,
    base_features,
    detail_layer,
    detail_shape,
    joined,
    plain_pictures,
    remembering,
    synthesize,
)
from inversion_core.models import GeneratorConfig
from inversion_core.packs import load_pack, save_pack
from inversion_core.packs.detail import DetailSpec
from tests.tiny import tiny_pack

PACK = tiny_pack()
SHAPE = detail_shape(PACK.manifest.generator, PACK.detail.px)


def latent(batch: int = 2, *, detail: bool = True) -> Latent:
    draw = torch.Generator().manual_seed(3)
    w_BLD = PACK.map(torch.randn(batch, PACK.z_dim, generator=draw))
    return Latent(w_BLD=w_BLD, detail_BCHW=torch.randn(batch, *SHAPE, generator=draw) if detail else None)


def test_no_detail_is_the_picture_of_the_code() -> None:
    plain, zero = latent(detail=False), dataclasses.replace(latent(), detail_BCHW=torch.zeros(2, *SHAPE))
    assert torch.equal(PACK.synthesize(plain), PACK.synthesize(plain.w_BLD))
    assert torch.equal(PACK.synthesize(zero), PACK.synthesize(plain))
    assert not torch.equal(PACK.synthesize(latent()), PACK.synthesize(plain))


@pytest.mark.parametrize("px", [4, 8, 16])
def test_the_picture_of_a_code_by_way_of_its_features_is_the_same(px: int) -> None:
    w_BLD = latent().w_BLD
    assert torch.equal(plain_pictures(PACK.generator, w_BLD, px), PACK.synthesize(w_BLD))


@torch.no_grad()
def test_features_are_found_once_where_they_are_remembered() -> None:
    whole, px = latent(), PACK.detail.px
    expected = synthesize(PACK.generator, whole)
    with remembering():
        first = base_features(PACK.generator, whole.w_BLD, px)
        assert base_features(PACK.generator, whole.w_BLD.clone(), px) is first
        assert torch.equal(synthesize(PACK.generator, whole), expected)
        assert base_features(PACK.generator, whole.w_BLD, 4).shape[-1] == 4
        other = base_features(PACK.generator, whole.w_BLD + 1, px)
        assert not torch.equal(other, first)
        with ThreadPoolExecutor(1) as pool:
            elsewhere = pool.submit(base_features, PACK.generator, whole.w_BLD, px).result()
        assert elsewhere is not first
        for seed in range(8):  # only a few are kept
            base_features(PACK.generator, whole.w_BLD + seed, px)
        assert base_features(PACK.generator, whole.w_BLD, px) is not first
    assert base_features(PACK.generator, whole.w_BLD, px) is not base_features(PACK.generator, whole.w_BLD, px)


def test_known_features_give_the_same_picture_and_gradient() -> None:
    whole = latent()
    base_BCHW = base_features(PACK.generator, whole.w_BLD, PACK.detail.px)
    assert base_BCHW.shape == (2, *SHAPE)
    gradients = []
    for known in (None, base_BCHW):
        detail_BCHW = whole.free.clone().requires_grad_()
        image_BCHW = synthesize(PACK.generator, whole.with_free(detail_BCHW), known)
        gradients.append(torch.autograd.grad(image_BCHW.square().sum(), detail_BCHW)[0])
        assert torch.equal(image_BCHW, PACK.synthesize(whole))
    assert torch.equal(*gradients)


@pytest.mark.parametrize("px", [4, 8, 16])
def test_detail_at_every_size(px: int) -> None:
    shape = detail_shape(PACK.manifest.generator, px)
    w_BLD = latent(1).w_BLD
    one = Latent(w_BLD=w_BLD, detail_BCHW=torch.ones(1, *shape))
    assert PACK.synthesize(one).shape == (1, 3, PACK.resolution, PACK.resolution)
    assert not torch.equal(PACK.synthesize(one), PACK.synthesize(w_BLD))


def test_the_layer_is_the_second_of_its_size() -> None:
    assert [detail_layer(GeneratorConfig(resolution=128, channels=(8,) * 6), px) for px in (4, 8, 16, 32, 64, 128)] == [
        1,
        3,
        5,
        7,
        9,
        11,
    ]


def test_rows_and_joined() -> None:
    whole = latent(3)
    together = joined([whole.rows(0, 1), whole.rows(1, 3)])
    assert torch.equal(together.w_BLD, whole.w_BLD)
    assert torch.equal(together.free, whole.free)
    with pytest.raises(ValueError, match="some latents have detail"):
        joined([whole, latent(detail=False)])


@pytest.mark.parametrize("detail", [True, False])
def test_what_is_saved_comes_back(detail: bool) -> None:
    one = latent(1, detail=detail)
    back = Latent.from_bytes(one.to_bytes())
    assert torch.equal(back.w_BLD, one.w_BLD)
    assert (back.detail_BCHW is not None) == detail
    if detail:
        torch.testing.assert_close(back.free, one.free, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="3 images"):
        latent(3).to_bytes()


def test_a_file_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"w_plus must be \(L, D\)"):
        Latent.from_bytes(save({"w_plus": torch.zeros(1, 2, 3)}))


@pytest.mark.parametrize(
    ("detail_BCHW", "message"),
    [
        (torch.zeros(1, *SHAPE), "it must be \\(2, C, H, W\\)"),
        (torch.zeros(2, 1, SHAPE[1], SHAPE[2]), "takes \\(B, "),
        (torch.zeros(2, SHAPE[0], 7, 7), "at 7 px is impossible"),
        (torch.zeros(2, *SHAPE, dtype=torch.long), "floating point"),
    ],
)
def test_detail_that_does_not_fit_is_refused(detail_BCHW: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PACK.synthesize(Latent(w_BLD=latent().w_BLD, detail_BCHW=detail_BCHW))


# -- pack.json -----------------------------------------------------------------------------------------------


def written(folder: Path, spec: DetailSpec | None) -> Path:
    networks: dict[str, Any] = {name: getattr(PACK, name) for name in ("generator", "perceptual", "encoder")}
    save_pack(folder, dataclasses.replace(PACK.manifest, detail=spec), **networks)
    return folder


def test_a_pack_says_where_detail_is_added(tmp_path: Path) -> None:
    spec = DetailSpec(px=8, after=4, steps=6, learning_rate=0.1)
    assert load_pack(written(tmp_path / "own", spec)).detail == spec
    silent = written(tmp_path / "silent", None)
    assert load_pack(silent).detail == DetailSpec(px=PACK.resolution // 2)
    assert "detail" not in json.loads((silent / "pack.json").read_text())


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("px", 6, "power of two"),
        ("px", 512, "impossible"),
        ("steps", -1, "from 0"),
        ("learning_rate", "much", "finite number"),
        ("beta1", 1, "beta1"),
        ("colour", 1, "unknown"),
    ],
)
def test_a_wrong_section_is_refused(tmp_path: Path, key: str, value: object, message: str) -> None:
    file = written(tmp_path / "pack", DetailSpec(px=8)) / "pack.json"
    data = json.loads(file.read_text())
    data["detail"][key] = value
    file.write_text(json.dumps(data))
    with pytest.raises(PackInvalid, match=message):
        load_pack(file.parent)

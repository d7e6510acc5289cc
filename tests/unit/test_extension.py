"""Extensions: learned optimizers of a pack in a folder of their own, and weights that two of them share."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inversion_core import InvertConfig, invert
from inversion_core.cli import main
from inversion_core.errors import OptionInvalid, PackInvalid
from inversion_core.optimizers.designs import DESIGNS
from inversion_core.packs import (
    Variant,
    change_pack,
    copy_pack,
    find_pack,
    list_packs,
    load_networks,
    load_pack,
    make_extension,
    put_directions,
    put_encoder,
    put_learned,
    read_manifest,
    verify_pack,
)
from inversion_core.packs.extension import parse_own, read_own
from inversion_core.packs.imagenet import use_imagenet_vgg
from inversion_core.packs.opened import open_pack
from inversion_core.packs.places import PATH_VARIABLE
from tests.tiny import rough_pack, save_networks, tiny_pack, tiny_targets
from tests.unit.test_packs import torchvision_like

pytestmark = pytest.mark.unit
LBFGS, BASIS, RGDN = (Variant(name, "any") for name in ("learned-lbfgs", "learned-basis", "learned-rgdn"))


def network(variant: Variant) -> tuple[dict[str, Any], torch.nn.Module]:
    """Settings and network of a design, of odd weights."""
    settings = DESIGNS[variant.optimizer].complete({})
    made = DESIGNS[variant.optimizer].build(settings, num_layers=6, w_dim=12)
    return settings, made


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    top = json.loads((folder / "pack.json").read_text())
    change(top)
    (folder / "pack.json").write_text(json.dumps(top))


@pytest.fixture
def packs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the tiny pack, which has learned-lbfgs, and an extension with learned-rgdn."""
    folder = tmp_path / "packs"
    monkeypatch.setenv(PATH_VARIABLE, str(folder))
    save_networks(folder / "tiny", rough_pack())
    put_learned(folder / "tiny", LBFGS, *network(LBFGS))
    assert main(["pack", "extend", "tiny", "--out", str(folder / "more"), "--name", "more"]) == 0
    put_learned(folder / "more", RGDN, *network(RGDN))
    return folder


def test_an_extension_is_the_pack_with_further_optimizers(packs: Path) -> None:
    pack, base = load_pack("more"), load_pack("tiny")
    assert set(pack.learned) == {LBFGS, RGDN}
    assert (pack.name, pack.manifest.extends, pack.resolution) == ("more", "tiny", base.resolution)
    target = tiny_targets(1)
    steps = [
        [step.loss_B.item() for step in invert(each, target, InvertConfig(num_steps=2, optimizer="learned-lbfgs"))]
        for each in (pack, base)
    ]
    assert steps[0] == steps[1]
    list(invert(pack, target, InvertConfig(num_steps=2, optimizer="learned-rgdn")))
    assert load_networks("more", ["encoder"]).keys() == {"encoder"}
    assert verify_pack(packs / "more") == pack.manifest
    assert sorted(path.name for path in (packs / "more").iterdir()) == ["learned-rgdn-any.safetensors", "pack.json"]


def test_it_is_listed_by_those_who_ask_alone(
    packs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "more" not in [manifest.name for manifest in list_packs()]
    assert "more" in [manifest.name for manifest in list_packs(extensions=True)]
    assert main(["pack", "list"]) == 0
    assert "\nmore " in capsys.readouterr().out
    monkeypatch.setenv(PATH_VARIABLE, os.pathsep.join([str(packs), str(packs / "more")]))
    assert "more" in [manifest.name for manifest in list_packs()], "an operator names the folder itself"


def test_weights_that_two_share_lie_there_once(packs: Path, tmp_path: Path) -> None:
    share = {"learned-basis-any": "learned-lbfgs-any"}
    settings = {"any": DESIGNS["learned-basis"].complete({})}
    for name in ("tiny", "more"):
        folder = tmp_path / name
        copy_pack(packs / name, folder)
        edit(folder, lambda top: top["optimizers"].update({"learned-basis": settings}))
        edit(folder, lambda top: top.update({"shared_weights": share}))
        pack = load_pack(folder)
        theirs = pack.learned[LBFGS].state_dict()
        assert all(torch.equal(value, theirs[key]) for key, value in pack.learned[BASIS].state_dict().items())
        assert not (folder / BASIS.file).exists()
        assert read_own(folder).shared_weights == share
        change_pack(folder, version="2")
        assert read_manifest(folder).shared_weights == share
    with pytest.raises(OptionInvalid, match="learned-basis-any takes its weights from learned-lbfgs-any"):
        put_learned(tmp_path / "tiny", LBFGS, *network(LBFGS))
    put_learned(tmp_path / "tiny", BASIS, *network(BASIS))
    assert read_manifest(tmp_path / "tiny").shared_weights == {}
    assert (tmp_path / "tiny" / BASIS.file).exists()


BREAKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no such pack": (lambda f: edit(f / "more", lambda t: t.update(extends="huge")), "adds optimizers to the pack huge"),
    "itself": (lambda f: edit(f / "more", lambda t: t.update(extends="more")), "is an extension itself"),
    "another generator": (lambda f: edit(f / "more", lambda t: t.update(generator_sha256="0" * 64)), "Install the tiny"),
    "no SHA-256": (lambda f: edit(f / "more", lambda t: t.update(generator_sha256="x")), "'generator_sha256' must be"),
    "both have it": (lambda f: edit(f / "tiny", lambda t: t["optimizers"].update({"learned-rgdn": {"any": network(RGDN)[0]}}) or t.update(shared_weights={"learned-rgdn-any": "learned-lbfgs-any"})), "leave it out"),
    "classic": (lambda f: edit(f / "more", lambda t: t["optimizers"].update(adam={})), "an extension adds learned ones"),
    "unlisted": (lambda f: edit(f / "more", lambda t: t["files"].clear()), "does not list learned-rgdn-any"),
    "unknown": (lambda f: edit(f / "more", lambda t: t.update(resolution=3)), "'resolution' is unknown"),
    "shares with nobody": (lambda f: edit(f / "more", lambda t: t.update(shared_weights={"learned-rgdn-any": "learned-any"})), "shared_weights has"),
    "shares in a ring": (lambda f: edit(f / "more", lambda t: t.update(shared_weights={"learned-rgdn-any": "learned-rgdn-any"})), "shared_weights has"),
    "damaged": (lambda f: (f / "more" / RGDN.file).write_bytes(b"x"), "truncated or changed"),
    "base damaged": (lambda f: (f / "tiny" / LBFGS.file).write_bytes(b"x"), "truncated or changed"),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKS)
def test_what_is_wrong_with_an_extension_is_said(name: str, packs: Path) -> None:
    spoil, words = BREAKS[name]
    spoil(packs)
    with pytest.raises(PackInvalid, match=words):
        load_pack(packs / "more")


def test_what_is_the_packs_is_not_changed_in_an_extension(packs: Path) -> None:
    with pytest.raises(OptionInvalid, match="change that one"):
        put_directions(packs / "more", [])
    encoder = tiny_pack().encoder
    assert encoder is not None
    with pytest.raises(OptionInvalid, match="change that one"):
        put_encoder(packs / "more", encoder)
    with pytest.raises(OptionInvalid, match="whose focus is that of tiny"):
        change_pack(packs / "more", focus=3)
    with pytest.raises(PackInvalid, match="leave it out"):
        put_learned(packs / "more", LBFGS, *network(LBFGS))
    with pytest.raises(OptionInvalid, match="is an extension"):
        make_extension(packs / "more", packs / "further", name="further")
    assert sorted(path.name for path in packs.iterdir()) == ["more", "tiny"]


def test_what_becomes_a_whole_pack_has_everything(packs: Path, tmp_path: Path) -> None:
    manifest = use_imagenet_vgg("more", out=tmp_path / "whole", source=torchvision_like, weight=0.1)
    assert manifest.extends == ""
    assert set(load_pack(tmp_path / "whole").learned) == {LBFGS, RGDN}


JSON = (
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=6) | st.just({}) | st.just([]) | st.just("0" * 64)
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_change_of_an_extensions_pack_json_is_read_or_refused(data: st.DataObject, packs: Path) -> None:
    file = packs / "more" / "pack.json"
    top = json.loads(file.read_text())
    key = data.draw(st.sampled_from([*top, "focus", "shared_weights"]))
    inner = data.draw(st.sampled_from(sorted(top[key]))) if isinstance(top.get(key), dict) and top[key] else None
    if inner is not None and data.draw(st.booleans()):
        top[key][inner] = data.draw(JSON)
    elif data.draw(st.booleans()):
        top[key] = data.draw(JSON)
    else:
        top.pop(key, None)
    with contextlib.suppress(PackInvalid):
        own = parse_own(json.dumps(top).encode("utf-8", "surrogatepass"), file)
        manifest = open_pack(packs / "more", find_pack, own).manifest
        assert set(manifest.tensor_files) <= set(manifest.files)

"""Directions in packs, and moving codes along them."""

from __future__ import annotations

import dataclasses
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from inversion_core.cli import main
from inversion_core.editing import move
from inversion_core.errors import PackInvalid
from inversion_core.packs import Direction, DirectionSpec, load_pack, put_directions, read_manifest, save_pack
from inversion_core.packs.digests import digest
from inversion_core.packs.directions import DIRECTIONS_FILE
from inversion_worker.core_backend import CoreBackend
from tests.tiny import tiny_pack

pytestmark = pytest.mark.unit

SPEC = DirectionSpec(name="smile", label="Smile", range=(-2.0, 2.5), unit="1 SD", source="ratings", held_out_r2=0.6)


def direction(name: str = "smile", shape: tuple[int, int] = (6, 12), seed: int = 0) -> Direction:
    draw = torch.Generator().manual_seed(seed)
    return Direction(spec=dataclasses.replace(SPEC, name=name), step_LD=torch.randn(shape, generator=draw))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny pack with a card and no directions."""
    pack = tiny_pack()
    save_pack(tmp_path / "tiny", pack.manifest, generator=pack.generator, perceptual=pack.perceptual,
              encoder=pack.encoder, extra_files={"README.md": b"# tiny"})  # fmt: skip
    return tmp_path / "tiny"


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change pack.json, with the digests as they should be."""
    file = folder / "pack.json"
    top = json.loads(file.read_text())
    change(top)
    for name in top["files"]:
        if (folder / name).is_file():
            top["files"][name] = digest(folder / name)
    file.write_text(json.dumps(top))


# -- in a pack -----------------------------------------------------------------------------------------------


def test_a_pack_without_directions_has_none(folder: Path) -> None:
    assert dict(load_pack(folder).directions) == {}


def test_put_directions_keeps_everything_else(folder: Path) -> None:
    before = read_manifest(folder)
    written = put_directions(folder, [direction("smile"), direction("age", seed=1)])
    assert written == read_manifest(folder)
    assert [spec.name for spec in written.directions] == ["smile", "age"]
    assert {name: written.files[name] for name in before.files} == dict(before.files)
    assert set(written.files) - set(before.files) == {DIRECTIONS_FILE}
    assert (folder / "README.md").read_bytes() == b"# tiny"
    assert stat.S_IMODE((folder / DIRECTIONS_FILE).stat().st_mode) == 0o644
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]  # no scratch folder left
    loaded = load_pack(folder).directions
    assert loaded["age"].spec == dataclasses.replace(SPEC, name="age")
    assert torch.equal(loaded["age"].step_LD, direction("age", seed=1).step_LD)


def test_put_directions_replaces_and_removes(folder: Path) -> None:
    put_directions(folder, [direction("smile")])
    put_directions(folder, [direction("age")])
    assert list(load_pack(folder).directions) == ["age"]
    put_directions(folder, [])
    assert dict(load_pack(folder).directions) == {}
    assert not (folder / DIRECTIONS_FILE).exists()


def test_put_directions_vouches_for_no_damaged_file(folder: Path) -> None:
    (folder / "README.md").write_bytes(b"# changed")
    with pytest.raises(PackInvalid, match="README"):
        put_directions(folder, [direction()])
    assert read_manifest(folder).directions == ()


@pytest.mark.parametrize(
    "bad", [direction(shape=(6, 11)), dataclasses.replace(direction(), step_LD=torch.full((6, 12), float("nan")))]
)
def test_put_directions_refuses_a_wrong_tensor_and_changes_nothing(folder: Path, bad: Direction) -> None:
    with pytest.raises(PackInvalid, match="smile"):
        put_directions(folder, [bad])
    assert read_manifest(folder).directions == ()


def test_a_saved_pack_carries_its_directions(folder: Path, tmp_path: Path) -> None:
    put_directions(folder, [direction()])
    pack = load_pack(folder)
    networks: dict[str, Any] = {"generator": pack.generator, "perceptual": pack.perceptual, "encoder": pack.encoder}
    save_pack(tmp_path / "copy", pack.manifest, **networks, direction_steps=pack.direction_steps)
    assert torch.equal(load_pack(tmp_path / "copy").directions["smile"].step_LD, direction().step_LD)
    with pytest.raises(PackInvalid, match="smile"):
        save_pack(tmp_path / "without", pack.manifest, **networks)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("name", "Big Smile", "name"), ("name", 3, "must be a text"), ("label", "", "label"), ("range", [-4, 2], "range"),
        ("range", [1, 2], "range"), ("range", [0, 0], "range"), ("range", [-1], "list of 2"), ("range", [-1, None], "finite"),
        ("held_out_r2", 1.5, "held_out_r2"), ("held_out_r2", "good", "finite"), ("strength", 1, "unknown"),
    ],
)  # fmt: skip
def test_a_wrong_entry_is_named(folder: Path, key: str, value: object, words: str) -> None:
    put_directions(folder, [direction()])
    rewrite(folder, lambda top: top["directions"][0].update({key: value}))
    with pytest.raises(PackInvalid, match=words) as caught:
        load_pack(folder)
    assert f"directions.0.{key}" in str(caught.value)


@pytest.mark.parametrize("key", ["name", "label", "range", "unit", "source", "held_out_r2"])
def test_a_missing_key_is_named(folder: Path, key: str) -> None:
    put_directions(folder, [direction()])
    rewrite(folder, lambda top: top["directions"][0].pop(key))
    with pytest.raises(PackInvalid, match=f"directions.0.{key}' is missing"):
        load_pack(folder)


def test_two_of_one_name_are_refused(folder: Path) -> None:
    put_directions(folder, [direction()])
    rewrite(folder, lambda top: top["directions"].append(top["directions"][0]))
    with pytest.raises(PackInvalid, match="two of one name"):
        load_pack(folder)


def test_an_unlisted_file_is_refused(folder: Path) -> None:
    put_directions(folder, [direction()])
    rewrite(folder, lambda top: top["files"].pop(DIRECTIONS_FILE))
    with pytest.raises(PackInvalid, match=r"does not list directions\.safetensors"):
        load_pack(folder)


@pytest.mark.parametrize(
    "tensors", [{}, {"smile": torch.zeros(6, 11)}, {"smile": torch.full((6, 12), float("inf"))},
                {"smile": torch.zeros(6, 12), "age": torch.zeros(6, 12)}],
)  # fmt: skip
def test_a_wrong_file_is_refused(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    put_directions(folder, [direction()])
    save_file(tensors, folder / DIRECTIONS_FILE)
    rewrite(folder, lambda top: None)
    with pytest.raises(PackInvalid, match=DIRECTIONS_FILE):
        load_pack(folder)


def test_show_lists_them_and_the_worker_announces_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put_directions(folder, [direction()])
    assert main(["pack", "show", str(folder)]) == 0
    assert json.loads(capsys.readouterr().out.split("\n", 1)[1])["directions"][0]["range"] == [-2.0, 2.5]
    (info,) = CoreBackend({"tiny": load_pack(folder)}, "tiny", "cpu").packs()
    assert [found.model_dump() for found in info.directions] == [
        {
            "name": "smile",
            "label": "Smile",
            "low": -2.0,
            "high": 2.5,
            "unit": "1 SD",
            "source": "ratings",
            "held_out_r2": 0.6,
            "side_effects": {},
        }
    ]
    assert load_file(folder / DIRECTIONS_FILE).keys() == {"smile"}


# -- moving --------------------------------------------------------------------------------------------------


def test_move_adds_steps_and_leaves_the_codes_alone() -> None:
    w_BLD, way = torch.randn(3, 6, 12), direction()
    kept = w_BLD.clone()
    moved_BLD = move(w_BLD, way, 2)
    torch.testing.assert_close(moved_BLD, kept + 2 * way.step_LD)
    assert torch.equal(w_BLD, kept)
    torch.testing.assert_close(move(moved_BLD, way, -2.0), kept)
    assert torch.equal(move(w_BLD, way, 0), kept)


def test_move_takes_a_strength_for_each_image() -> None:
    w_BLD, way = torch.randn(3, 6, 12), direction()
    moved_BLD = move(w_BLD, way, [0.0, 1.0, -1.5])
    for index, strength in enumerate((0.0, 1.0, -1.5)):
        torch.testing.assert_close(moved_BLD[index], w_BLD[index] + strength * way.step_LD)


def test_move_keeps_kind_and_gradient() -> None:
    w_BLD = torch.randn(2, 6, 12, dtype=torch.float64, requires_grad=True)
    moved_BLD = move(w_BLD, direction(), 1.0)
    assert moved_BLD.dtype == torch.float64
    moved_BLD.sum().backward()
    assert w_BLD.grad is not None
    assert torch.equal(w_BLD.grad, torch.ones_like(w_BLD))


@pytest.mark.parametrize("shape", [(6, 12), (1, 5, 12), (1, 6, 13)])
def test_move_refuses_codes_of_another_pack(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="codes have shape"):
        move(torch.zeros(shape), direction(), 1.0)


@pytest.mark.parametrize("strength", [float("nan"), float("inf"), [1.0, 2.0], [[1.0], [2.0], [3.0]]])
def test_move_refuses_strengths_that_do_not_fit(strength: Any) -> None:
    with pytest.raises(ValueError, match="strength"):
        move(torch.zeros(3, 6, 12), direction(), strength)

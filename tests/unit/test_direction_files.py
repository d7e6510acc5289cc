"""Directions from everywhere: computed, fitted, read from files of others, stored beside a pack, held fixed."""

from __future__ import annotations

import dataclasses
import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inversion_core.editing.directions.computed import SAMPLES, deviation, ganspace, sefa
from inversion_core.editing.directions.fitted import fit_direction
from inversion_core.editing.directions.foreign import read_foreign
from inversion_core.editing.directions.imported import import_directions
from inversion_core.editing.directions.pickled import read_pickled
from inversion_core.editing.directions.store import load_directions, save_directions, with_files
from inversion_core.editing.domain import random_codes
from inversion_core.editing.hold import effect, held_fixed
from inversion_core.errors import OptionInvalid
from inversion_core.packs import Direction, DirectionSpec, Pack, load_pack, put_directions, save_pack
from tests.tiny import tiny_pack

pytestmark = pytest.mark.unit

PACK = tiny_pack()
L, D = 6, 12
RANDOM = np.random.default_rng(0)
ROW = RANDOM.standard_normal((1, D)).astype(np.float32)
WHOLE = RANDOM.standard_normal((1, L, D)).astype(np.float32)


def spec(name: str, **effects: float) -> DirectionSpec:
    return DirectionSpec(
        name=name, label=name, range=(-2.0, 2.0), unit="1", source="made up",
        side_effects={key.replace("_", "-"): value for key, value in effects.items()},
    )  # fmt: skip


# -- without labels ------------------------------------------------------------------------------------------


def test_sefa_gives_eigenvectors_of_the_style_weights_largest_first() -> None:
    styles = PACK.generator.synthesis.style_weights()[1:4]
    a_SD = torch.cat([w_SD / w_SD.norm(dim=1, keepdim=True) for w_SD in styles]).double()
    found = sefa(PACK, count=3, layers=(1, 3))
    values = []
    for direction in found:
        v = direction.step_LD[1].double()
        assert torch.equal(direction.step_LD[[0, 4, 5]], torch.zeros(3, D))
        assert torch.equal(direction.step_LD[1], direction.step_LD[3])
        moved = a_SD.T @ (a_SD @ v)
        values.append((moved @ v / (v @ v)).item())
        torch.testing.assert_close(moved, values[-1] * v, rtol=1e-4, atol=1e-4)
    assert values == sorted(values, reverse=True)
    assert [direction.spec.name for direction in found] == ["sefa-l1-3-1", "sefa-l1-3-2", "sefa-l1-3-3"]


@pytest.mark.parametrize("pack", [PACK, tiny_pack(has_encoder=False)], ids=["encoder", "mapped"])
def test_ganspace_gives_principal_components(pack: Pack) -> None:
    first, second = ganspace(pack, count=2)
    w_NP = random_codes(pack, SAMPLES).flatten(1).double()
    value_P, vector_PP = torch.linalg.eigh(torch.cov(w_NP.T))
    for direction, place in ((first, -1), (second, -2)):
        step_P = direction.step_LD.flatten().double()
        assert abs(float(step_P @ vector_PP[:, place] / step_P.norm())) == pytest.approx(1, abs=1e-4)
        assert step_P.norm().item() == pytest.approx(value_P[place].sqrt().item(), rel=1e-3)


@pytest.mark.parametrize("find", [sefa, ganspace])
def test_a_unit_is_one_standard_deviation_and_the_same_each_time(find: Callable[..., list[Direction]]) -> None:
    once, again = find(PACK), find(PACK)
    assert [torch.equal(a.step_LD, b.step_LD) for a, b in zip(once, again, strict=True)] == [True] * 8
    assert deviation(random_codes(PACK, SAMPLES), once[0].step_LD) == pytest.approx(1, rel=1e-3)
    with pytest.raises(OptionInvalid, match="count is 13; give from 1 to 12"):
        find(PACK, count=13)
    with pytest.raises(OptionInvalid, match="layers are 4 to 6; pack tiny has 0 to 5"):
        find(PACK, layers=(4, 6))


# -- fitted --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "least"), [("difference", 0.9), ("separation", 0.6)])
def test_a_fitted_direction_leads_from_one_mean_to_the_other(method: str, least: float) -> None:
    draw = torch.Generator().manual_seed(0)
    way_LD = torch.randn(L, D, generator=draw)
    low = torch.randn(40, L, D, generator=draw)
    high = torch.randn(40, L, D, generator=draw) + way_LD
    found = fit_direction(PACK, high, low, name="hat", label="Hat", method=method)
    cosine = torch.nn.functional.cosine_similarity(found.step_LD.flatten(), way_LD.flatten(), dim=0)
    assert cosine > least
    along = (found.step_LD * (high.mean(0) - low.mean(0))).sum() / found.step_LD.square().sum()
    assert along.item() == pytest.approx(1, rel=1e-4)


def test_what_cannot_be_fitted_is_refused() -> None:
    w = torch.randn(2, L, D)
    for arguments, words in (
        ((w, w, "hat", "difference"), "the same mean code"),
        ((w[:0], w, "hat", "difference"), "at least one code for each"),
        ((w, w + 1, "Big Hat", "difference"), "name is 'Big Hat'"),
        ((w, w + 1, "hat", "magic"), "method is 'magic'; there are difference, separation"),
    ):
        with pytest.raises(OptionInvalid, match=words):
            fit_direction(PACK, *arguments[:2], name=arguments[2], label="x", method=arguments[3])


# -- files of others -----------------------------------------------------------------------------------------


def npy(folder: Path, array: Any, *, protocol: int | None = None) -> Path:
    file = folder / "Age boundary.npy"
    if protocol is None:
        np.save(file, array)
    else:
        header = np.lib.format.header_data_from_array_1_0(np.array(array, dtype=object))
        with file.open("wb") as stream:
            np.lib.format.write_array_header_1_0(stream, header)
            pickle.dump(np.array(array, dtype=object), stream, protocol=protocol)
    return file


def torch_file(folder: Path, value: object, *, old: bool = False) -> Path:
    torch.save(value, folder / "age.pt", _use_new_zipfile_serialization=not old)
    return folder / "age.pt"


def test_interfacegan_moves_all_layers_alike(tmp_path: Path) -> None:
    found = read_foreign(npy(tmp_path, ROW.astype(np.float64)), L, D)
    assert list(found) == ["age-boundary"]
    assert torch.equal(found["age-boundary"], torch.from_numpy(ROW).expand(L, D))


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_idinvert_moves_the_layers_that_its_dict_names(tmp_path: Path, protocol: int) -> None:
    boundary = {"boundary": WHOLE, "meta_data": {"manipulate_layers": [0, 2]}}
    (step_LD,) = read_foreign(npy(tmp_path, boundary, protocol=protocol), L, D).values()
    assert torch.equal(step_LD[[0, 2]], torch.from_numpy(WHOLE[0])[[0, 2]])
    assert not step_LD[[1, 3, 4, 5]].any()
    (chosen_LD,) = read_foreign(tmp_path / "Age boundary.npy", L, D, layers=(1, 1)).values()
    assert torch.equal(chosen_LD[1], torch.from_numpy(WHOLE[0, 1]))
    assert not chosen_LD[[0, 2, 3, 4, 5]].any()


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("array", [ROW, WHOLE])
def test_e4e_is_a_tensor_alone(tmp_path: Path, array: Any, old: bool) -> None:
    (step_LD,) = read_foreign(torch_file(tmp_path, torch.from_numpy(array), old=old), L, D).values()
    assert torch.equal(step_LD, torch.from_numpy(array[0]).expand(L, D))


def test_stylefeatureeditor_is_flat(tmp_path: Path) -> None:
    (step_LD,) = read_foreign(npy(tmp_path, WHOLE.reshape(1, L * D)), L, D).values()
    assert torch.equal(step_LD, torch.from_numpy(WHOLE[0]))


def test_components_come_with_their_deviations(tmp_path: Path) -> None:
    comp, deviations = RANDOM.standard_normal((3, D)), np.array([3.0, 2.0, 1.0])
    np.savez(tmp_path / "g.npz", lat_comp=comp[:, None], lat_mean=ROW, lat_stdev=deviations)
    found = read_foreign(tmp_path / "g.npz", L, D)
    assert list(found) == ["g-0", "g-1", "g-2"]
    torch.testing.assert_close(found["g-1"][4], torch.from_numpy(2 * comp[1]).float())
    pca = {"mean": torch.zeros(1, D), "comp": torch.from_numpy(comp), "std": torch.from_numpy(deviations)}
    assert torch.equal(read_foreign(torch_file(tmp_path, pca), L, D)["age-2"][0], torch.from_numpy(comp[2]).float())


def test_sefa_files_have_columns(tmp_path: Path) -> None:
    vectors = torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(0))).Q
    found = read_foreign(torch_file(tmp_path, {"eigvec": vectors}), L, D)
    assert len(found) == D
    assert torch.equal(found["age-3"][0], vectors[:, 3])


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.ones((1, 13)), r"shape \(1, 13\); this pack needs \(12,\), one for all layers, or \(6, 12\)"),
        (np.zeros((1, D)), "zero, infinite or NaN"), (np.full((1, D), np.nan), "zero, infinite or NaN"),
        (np.array(["a"]), "where an array of numbers is needed"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(tmp_path: Path, array: Any, words: str) -> None:
    with pytest.raises(OptionInvalid, match=words):
        read_foreign(npy(tmp_path, array), L, D)


def test_a_dict_without_a_direction_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionInvalid, match="has the keys a; known are boundary"):
        read_foreign(npy(tmp_path, {"a": ROW}, protocol=2), L, D)
    with pytest.raises(OptionInvalid, match="moves layer 14; the pack has the layers 0 to 5"):
        read_foreign(npy(tmp_path, {"boundary": WHOLE, "meta_data": {"manipulate_layers": [14]}}, protocol=2), L, D)
    with pytest.raises(OptionInvalid, match="cannot be read: No such file"):
        read_foreign(tmp_path / "none.npy", L, D)


class Runs:
    """A pickle that would make a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._folder / "ran"),)


@pytest.mark.parametrize("where", ["top", "inside", "torch"])
def test_nothing_in_a_file_is_run(tmp_path: Path, where: str) -> None:
    bad = Runs(tmp_path)
    file = (
        torch_file(tmp_path, {"comp": bad})
        if where == "torch"
        else npy(tmp_path, bad if where == "top" else {"boundary": bad}, protocol=2)
    )
    with pytest.raises(OptionInvalid, match=r"asks for the name (posix|os)\.mkdir"):
        read_foreign(file, L, D)
    assert not (tmp_path / "ran").exists()


GOOD = pickle.dumps(np.array({"boundary": WHOLE, "meta_data": {"manipulate_layers": [0]}}, dtype=object), protocol=2)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.binary(max_size=4), st.booleans())
def test_a_damaged_pickle_is_read_or_refused(place: int, instead: bytes, cut: bool) -> None:
    data = GOOD[:place] + instead + (b"" if cut else GOOD[place + len(instead) :])
    try:
        found: object = read_pickled(Path("x.npy"), data)
    except OptionInvalid:
        return
    assert isinstance(found, dict)


@pytest.mark.parametrize(
    "data", [b"", b"\x93NUMPY", b"PK\x03\x04", b"PK\x03\x04" + bytes(100), b"\x80\x02}.", b"hello"]
)
def test_what_is_no_file_of_directions_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.npy").write_bytes(data)
    with pytest.raises(OptionInvalid, match=r"x\.npy"):
        read_foreign(tmp_path / "x.npy", L, D)


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.savez_compressed(stream, lat_comp=np.zeros(2**24, np.float64))
    (tmp_path / "x.npz").write_bytes(stream.getvalue())
    with pytest.raises(OptionInvalid, match="unpacks to more than"):
        read_foreign(tmp_path / "x.npz", L, D)


def test_imported_directions_keep_or_change_their_unit(tmp_path: Path) -> None:
    file = npy(tmp_path, 5 * ROW)
    (kept,) = import_directions(PACK, file)
    assert torch.equal(kept.step_LD, torch.from_numpy(5 * ROW).expand(L, D))
    (scaled,) = import_directions(PACK, file, name="older", unit="deviation", layers=(0, 1))
    assert scaled.spec.name == "older"
    assert deviation(random_codes(PACK, SAMPLES), scaled.step_LD) == pytest.approx(1, rel=1e-4)
    with pytest.raises(OptionInvalid, match="name is 'My Age'"):
        import_directions(PACK, file, name="My Age")
    with pytest.raises(OptionInvalid, match="unit is 'metre'"):
        import_directions(PACK, file, unit="metre")


# -- beside a pack -------------------------------------------------------------------------------------------


def test_a_file_of_directions_is_read_as_it_was_written(tmp_path: Path) -> None:
    listed = [*sefa(PACK, count=2), Direction(spec=spec("older", smile=0.25), step_LD=torch.randn(L, D))]
    save_directions(tmp_path / "d.safetensors", listed, PACK)
    found = load_directions(tmp_path / "d.safetensors", PACK)
    assert [each.spec for each in found.values()] == [each.spec for each in listed]
    assert all(torch.equal(found[each.spec.name].step_LD, each.step_LD) for each in listed)
    assert list(with_files(PACK, [tmp_path / "d.safetensors"])) == list(found)
    with pytest.raises(OptionInvalid, match="there is one already"):
        with_files(PACK, [tmp_path / "d.safetensors"] * 2)


def test_a_file_for_another_generator_is_refused(tmp_path: Path) -> None:
    for seed in (0, 1):
        pack = tiny_pack(seed=seed)
        save_pack(
            tmp_path / str(seed),
            pack.manifest,
            generator=pack.generator,
            perceptual=pack.perceptual,
            encoder=pack.encoder,
        )
    one, other = (load_pack(tmp_path / str(seed)) for seed in (0, 1))
    save_directions(tmp_path / "d.safetensors", sefa(one, count=1), one)
    assert list(load_directions(tmp_path / "d.safetensors", one)) == ["sefa-1"]
    with pytest.raises(OptionInvalid, match="made for another generator"):
        load_directions(tmp_path / "d.safetensors", other)


def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes(b"hello")
    (tmp_path / "c.safetensors").touch()
    save_file({"a": torch.zeros(1)}, tmp_path / "d.safetensors", {"directions": "[3]"})
    save_file({"a": torch.zeros(1)}, tmp_path / "e.safetensors", {"directions": "{"})
    for name in "abcdef":
        with pytest.raises(OptionInvalid, match=rf"{name}\.safetensors"):
            load_directions(tmp_path / f"{name}.safetensors", PACK)
    with pytest.raises(OptionInvalid, match="0 directions with 0 names"):
        save_directions(tmp_path / "x.safetensors", [], PACK)


def test_side_effects_are_part_of_a_pack(tmp_path: Path) -> None:
    save_pack(tmp_path / "p", PACK.manifest, generator=PACK.generator, perceptual=PACK.perceptual, encoder=PACK.encoder)
    listed = [Direction(spec=spec("age", hair_length=-0.5), step_LD=torch.randn(L, D))]
    put_directions(tmp_path / "p", listed)
    assert load_pack(tmp_path / "p").directions["age"].spec == listed[0].spec
    put_directions(tmp_path / "p", [dataclasses.replace(listed[0], spec=spec("age"))])
    assert "side_effects" not in (tmp_path / "p" / "pack.json").read_text()
    for wrong in ({"age": 1.0}, {"smile": float("nan")}):
        with pytest.raises(ValueError, match="side_effects must be"):
            spec("age", **wrong)


# -- held fixed ----------------------------------------------------------------------------------------------

WAYS = {
    "age": Direction(spec=spec("age", hair=0.5, smile=0.2), step_LD=torch.randn(L, D)),
    "hair": Direction(spec=spec("hair", age=0.25), step_LD=torch.randn(L, D)),
    "smile": Direction(spec=spec("smile"), step_LD=torch.randn(L, D)),
}


def test_measured_side_effects_are_undone() -> None:
    held = held_fixed("age", ["hair"], WAYS)
    torch.testing.assert_close(held.step_LD, WAYS["age"].step_LD - 0.5 * WAYS["hair"].step_LD)
    assert held_fixed("age", [], WAYS) is WAYS["age"]


def test_several_are_held_at_once() -> None:
    held = held_fixed("age", ["hair", "smile"], WAYS)
    share = torch.linalg.lstsq(
        torch.stack([WAYS[name].step_LD.flatten() for name in ("hair", "smile")]).T.double(),
        (held.step_LD - WAYS["age"].step_LD).flatten()[:, None].double(),
    ).solution[:, 0].tolist()  # fmt: skip
    for on, undone in (("hair", 0.5), ("smile", 0.2)):
        total = undone + sum(k * effect(WAYS[of], WAYS[on]) for k, of in zip(share, ("hair", "smile"), strict=True))
        assert total == pytest.approx(0, abs=1e-4)


def test_where_nothing_was_measured_directions_become_orthogonal() -> None:
    ways = {name: dataclasses.replace(each, spec=spec(name)) for name, each in WAYS.items()}
    held = held_fixed("age", ["hair", "smile"], ways)
    for name in ("hair", "smile"):
        assert float((held.step_LD * ways[name].step_LD).sum()) == pytest.approx(0, abs=1e-3)


def test_two_equal_directions_are_held_as_one() -> None:
    ways = {
        "a": WAYS["smile"],
        "b": Direction(spec=spec("b"), step_LD=torch.ones(L, D)),
        "c": Direction(spec=spec("c"), step_LD=torch.ones(L, D)),
    }
    held = held_fixed("a", ["b", "c"], ways)
    assert held.step_LD.isfinite().all()
    assert float(held.step_LD.sum()) == pytest.approx(0, abs=1e-3)

"""Packs on disk: written whole, found by name, checked in every part, and nothing but PackInvalid when broken."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from inversion_core import InvertConfig, invert
from inversion_core.cli import main
from inversion_core.errors import OptionInvalid, PackInvalid, PackNotFound
from inversion_core.inverter import STARTS, make_optimizer
from inversion_core.latents import as_latent
from inversion_core.optimizers import LBFGS, Scheduled
from inversion_core.packs import Pack, list_packs, load_pack, read_manifest, save_pack, verify_pack
from inversion_core.packs.imagenet import MEAN_BGR, convert_torchvision, use_imagenet_vgg
from inversion_core.packs.manifest import parse_manifest
from inversion_core.packs.places import PATH_VARIABLE
from tests.tiny import tiny_pack, tiny_targets


def write(folder: Path, pack: Pack | None = None, **options: Any) -> Path:
    pack = pack or tiny_pack()
    networks: dict[str, Any] = {"generator": pack.generator, "perceptual": pack.perceptual, "encoder": pack.encoder}
    save_pack(folder, pack.manifest, **networks, **options)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "tiny")


# -- writing and reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize("has_encoder", [True, False])
def test_what_is_written_comes_back(has_encoder: bool, tmp_path: Path) -> None:
    pack = tiny_pack(has_encoder=has_encoder)
    loaded = load_pack(write(tmp_path / "x", pack))
    image = tiny_targets(2)
    w = loaded.map(torch.randn(2, 10))
    torch.testing.assert_close(loaded.synthesize(w), pack.synthesize(w), rtol=0, atol=0)
    torch.testing.assert_close(loaded.features(image), pack.features(image), rtol=0, atol=0)
    torch.testing.assert_close(loaded.mean_codes(2), pack.mean_codes(2), rtol=0, atol=0)
    assert loaded.has_encoder == has_encoder
    assert dataclasses.replace(loaded.manifest, files={}, perceptual=pack.manifest.perceptual) == pack.manifest
    if has_encoder:
        torch.testing.assert_close(loaded.encode(image), pack.encode(image), rtol=0, atol=0)
    else:
        with pytest.raises(OptionInvalid, match="no encoder"):
            loaded.encode(image)


def test_every_classic_optimizer_is_offered_and_the_pack_settles_some(folder: Path) -> None:
    tuned = {"learning_rate": 0.08, "warmup_steps": 5, "final_factor": 0.05}
    edit_json(folder, set_at("optimizers", value={"adam": tuned}))
    edit_json(folder, set_at("default_optimizer", value="lbfgs"))
    pack = load_pack(folder)
    assert pack.optimizers == {"sgd": {}, "nag": {}, "adagrad": {}, "rmsprop": {}, "adam": tuned, "lbfgs": {}}
    assert isinstance(make_optimizer(pack, InvertConfig()), LBFGS)
    assert json.loads(pack.manifest.to_json())["optimizers"] == {"adam": tuned}


def test_settings_may_differ_by_start(folder: Path) -> None:
    near, far = {"learning_rate": 0.16, "warmup_steps": 5}, {"learning_rate": 0.08}
    edit_json(folder, set_at("optimizers", value={"adam": {"encoder": near, "random": far}, "nag": {"random": far}}))
    pack = load_pack(folder)

    def rate(start: str, *, optimizer: str = "adam", has_code: bool = False) -> float:
        made = make_optimizer(
            pack,
            InvertConfig(optimizer=optimizer, start=start),
            start=as_latent(pack.mean_codes()) if has_code else None,
        )
        assert isinstance(made, Scheduled)
        return made.learning_rate

    assert [rate(start) for start in STARTS] == [0.16, 0.08, 0.08]
    assert rate("random", has_code=True) == 0.16  # a code handed in is near the truth, as an encoder's
    assert {rate(start, optimizer="nag") for start in STARTS} == {0.08}  # the only ones serve every start
    assert json.loads(pack.manifest.to_json())["optimizers"]["adam"] == {"encoder": near, "random": far}


def test_what_came_later_need_not_be_stated(folder: Path, tmp_path: Path) -> None:
    before = read_manifest(folder)
    assert before.encoder is not None
    assert before.encoder.blocks_per_size == 1
    assert "blocks_per_size" not in before.to_json(), "programs of before would not know it"
    deeper = dataclasses.replace(before, encoder=dataclasses.replace(before.encoder, blocks_per_size=2))
    assert json.loads(deeper.to_json())["encoder"]["blocks_per_size"] == 2
    (tmp_path / "pack.json").write_text(deeper.to_json(), encoding="utf-8")
    assert read_manifest(tmp_path).encoder == deeper.encoder


def test_a_pack_is_given_another_version_card_and_settings(folder: Path, tmp_path: Path) -> None:
    before = read_manifest(folder)
    (tmp_path / "card.md").write_text("tiny faces", encoding="utf-8")
    changes = ["--version", "2", "--card", str(tmp_path / "card.md"), "--optimizer", 'nag={"learning_rate": 3}',
               "--focus", "4.5", "--default-optimizer", "nag"]  # fmt: skip
    assert main(["pack", "change", str(folder), *changes]) == 0
    after = verify_pack(folder)
    assert (after.version, after.optimizers) == ("2", {**before.optimizers, "nag": {"learning_rate": 3}})
    assert (before.focus, after.focus) == (0, 4.5)
    assert (before.default_optimizer, after.default_optimizer) == ("adam", "nag")
    assert "focus" not in json.loads(before.to_json()), "programs that know no focus read a pack that has none"
    assert (folder / "README.md").read_text(encoding="utf-8") == "tiny faces"
    kept = {name: after.files[name] for name in before.files if name != "README.md"}
    assert kept == {name: sha for name, sha in before.files.items() if name != "README.md"}
    assert main(["pack", "change", str(folder), "--description", "small"]) == 0
    assert verify_pack(folder) == dataclasses.replace(after, description="small")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (["--version", "two words"], "version is 'two words'"),
        (["--optimizer", 'adam={"rate": 1}'], "'optimizers.adam' has settings"),
        (["--card", "nowhere.md"], "nowhere.md cannot be read"),
        (["--focus", "-1"], "focus is -1"),
        (["--default-optimizer", "learned"], "default_optimizer is 'learned'; this pack offers"),
    ],
)
def test_a_change_that_cannot_be_leaves_the_pack(
    folder: Path, capsys: pytest.CaptureFixture[str], wrong: list[str], says: str
) -> None:
    before = read_manifest(folder)
    assert main(["pack", "change", str(folder), *wrong]) == 2
    assert says in capsys.readouterr().err
    assert verify_pack(folder) == before


def test_a_loaded_pack_inverts_and_leaves_the_random_state_alone(folder: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    pack = load_pack(folder)
    assert torch.equal(torch.rand(1), expected)
    losses = [
        float(step.loss_B) for step in invert(pack, tiny_targets(1), InvertConfig(num_steps=20, learning_rate=0.05))
    ]
    assert losses[-1] < losses[0]


def test_everything_is_frozen_float32_and_differentiable_in_its_input(folder: Path) -> None:
    pack = load_pack(folder)
    for network in (pack.generator, pack.encoder, pack.perceptual):
        assert network is not None
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())
    z, image = torch.randn(2, 10, requires_grad=True), tiny_targets(2).requires_grad_()
    w = torch.randn(2, 6, 12, requires_grad=True)
    outputs = {
        "map": (pack.map(z), z), "synthesize": (pack.synthesize(w), w), "encode": (pack.encode(image), image),
        "features": (pack.features(image), image), "loss": (pack.loss(image, tiny_targets(2, seed=9)), image),
    }  # fmt: skip
    for name, (output, source) in outputs.items():
        (grad,) = torch.autograd.grad(output.square().sum(), source)
        assert output.dtype == torch.float32
        assert grad.abs().max() > 0, name
    assert outputs["loss"][0].shape == (2,)


def test_float64_and_half_inputs_become_float32(folder: Path) -> None:
    pack = load_pack(folder)
    w = torch.randn(1, 6, 12)
    torch.testing.assert_close(pack.synthesize(w.double()), pack.synthesize(w))
    assert pack.encode(tiny_targets(1).half()).dtype == torch.float32


@pytest.mark.parametrize(
    "call",
    [
        lambda p: p.map(torch.randn(10)), lambda p: p.map(torch.randn(1, 11)), lambda p: p.synthesize(torch.randn(6, 12)),
        lambda p: p.synthesize(torch.randn(1, 5, 12)), lambda p: p.encode(torch.randn(1, 3, 16, 15)),
        lambda p: p.encode(torch.randn(3, 16, 16)), lambda p: p.features(torch.randn(1, 1, 16, 16)),
        lambda p: p.encode(torch.zeros(1, 3, 16, 16, dtype=torch.uint8)),
        lambda p: p.loss(torch.randn(2, 3, 16, 16), torch.randn(1, 3, 16, 16)),
    ],
)  # fmt: skip
def test_wrong_shapes_are_a_callers_mistake(call: Callable[[Pack], object]) -> None:
    with pytest.raises(ValueError, match=r"shape|floating point"):
        call(tiny_pack())


def test_half_precision_halves_the_file_and_loads_as_float32(tmp_path: Path) -> None:
    full, half = write(tmp_path / "full"), write(tmp_path / "half", half=True)
    assert (half / "generator.safetensors").stat().st_size < (full / "generator.safetensors").stat().st_size
    state = load_file(half / "generator.safetensors")
    assert state["mapping.layers.0.weight"].dtype == torch.float16
    assert state["mapping.layers.0.bias"].dtype == torch.float32, "vectors are small and keep their precision"
    w = torch.randn(1, 6, 12, generator=torch.Generator().manual_seed(0))  # some codes are rounded twice as badly
    a, b = load_pack(full).synthesize(w), load_pack(half).synthesize(w)
    assert b.dtype == torch.float32
    assert 0 < (a - b).abs().max() < 0.04


def test_weights_that_float16_cannot_hold_are_refused(tmp_path: Path) -> None:
    pack = tiny_pack()
    pack.generator.mapping.layers[0].weight[0, 0] = 1e6
    with pytest.raises(PackInvalid, match=r"mapping\.layers\.0\.weight.*infinite"):
        write(tmp_path / "x", pack, half=True)
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_extra_files_are_listed_and_checked(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"png")
    folder = write(tmp_path / "x", extra_files={"README.md": b"# card", "samples/0.png": tmp_path / "picture.png"})
    assert {"README.md", "samples/0.png"} < set(read_manifest(folder).files)
    (folder / "README.md").write_text("# changed")
    with pytest.raises(PackInvalid, match=r"README\.md .*truncated or changed"):
        load_pack(folder)


def test_a_folder_is_replaced_only_when_told_and_only_if_it_is_a_pack(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="there already"):
        write(folder)
    (folder / "stale.txt").write_text("old")
    write(folder, overwrite=True)
    assert not (folder / "stale.txt").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="no pack"):
        write(tmp_path / "other", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "tiny"], "no scratch folders stay"


# -- broken packs --------------------------------------------------------------------------------------------


def edit_json(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads((folder / "pack.json").read_text())
    change(data)
    (folder / "pack.json").write_text(json.dumps(data))


def edit_weights(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], object], file: str = "generator.safetensors"
) -> None:
    """Change weights and bring the SHA-256 into line, so that the later checks are reached."""
    state = load_file(folder / file)
    change(state)
    save_file(state, folder / file)
    sign(folder, file)


def sign(folder: Path, file: str) -> None:
    digest = hashlib.sha256((folder / file).read_bytes()).hexdigest()
    edit_json(folder, lambda data: data["files"].update({file: digest}))


def cut(file: Path, share: float = 0.5) -> None:
    os.truncate(file, int(file.stat().st_size * share))


def set_at(*path: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value

    return change


WEIGHT = "synthesis.layers.2.weight"
BROKEN: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "no pack.json": (lambda f: (f / "pack.json").unlink(), "pack.json", "cannot be read"),
    "pack.json truncated": (lambda f: cut(f / "pack.json"), "pack.json", "no JSON"),
    "pack.json no UTF-8": (lambda f: (f / "pack.json").write_bytes(b'{"\xff"'), "pack.json", "no JSON"),
    "pack.json a list": (lambda f: (f / "pack.json").write_text("[]"), "pack.json", "JSON object"),
    "pack.json huge": (lambda f: (f / "pack.json").write_bytes(b" " * 5_000_000), "pack.json", "longer than"),
    "pack.json deep": (lambda f: (f / "pack.json").write_text("[" * 100_000), "pack.json", "no JSON"),
    "unknown format": (lambda f: edit_json(f, set_at("format", value=2)), "pack.json", "'format' is 2"),
    "key missing": (lambda f: edit_json(f, lambda d: d.pop("licence")), "pack.json", "'licence' is missing"),
    "key unknown": (lambda f: edit_json(f, set_at("colour", value=1)), "pack.json", "'colour' is unknown"),
    "inner key missing": (lambda f: edit_json(f, lambda d: d["generator"].pop("w_dim")), "pack.json", "'generator.w_dim' is missing"),
    "inner key unknown": (lambda f: edit_json(f, set_at("encoder", "x", value=1)), "pack.json", "'encoder.x' is unknown"),
    "wrong kind": (lambda f: edit_json(f, set_at("generator", "w_dim", value="12")), "pack.json", "'generator.w_dim' must be"),
    "truth for a number": (lambda f: edit_json(f, set_at("generator", "w_dim", value=True)), "pack.json", "'generator.w_dim' must be"),
    "number out of range": (lambda f: edit_json(f, set_at("generator", "z_dim", value=10**9)), "pack.json", "'generator.z_dim' is"),
    "deep encoder": (lambda f: edit_json(f, set_at("encoder", "blocks_per_size", value=60_000)), "pack.json", "blocks_per_size"),
    "deep mapping": (lambda f: edit_json(f, set_at("generator", "mapping_layers", value=60_000)), "pack.json", "mapping_layers"),
    "NaN": (lambda f: edit_json(f, set_at("perceptual", "weight", value=math.nan)), "pack.json", "'perceptual.weight' must be"),
    "negative weight": (lambda f: edit_json(f, set_at("perceptual", "weight", value=-1)), "pack.json", "'perceptual.weight' is"),
    "negative focus": (lambda f: edit_json(f, set_at("focus", value=-1)), "pack.json", "'focus' is -1"),
    "focus is no number": (lambda f: edit_json(f, set_at("focus", value="much")), "pack.json", "'focus' must be"),
    "bad resolution": (lambda f: edit_json(f, set_at("generator", "resolution", value=24)), "pack.json", "'generator.resolution'"),
    "resolutions differ": (lambda f: edit_json(f, set_at("resolution", value=32)), "pack.json", "'resolution' is 32"),
    "codes differ": (lambda f: edit_json(f, set_at("encoder", "w_dim", value=13)), "pack.json", "'encoder' makes codes"),
    "bad name": (lambda f: edit_json(f, set_at("name", value="../../x")), "pack.json", "'name' is"),
    "unknown perceptual kind": (lambda f: edit_json(f, set_at("perceptual", "kind", value="clip")), "pack.json", "'perceptual.kind'"),
    "bad perceptual depth": (lambda f: edit_json(f, set_at("perceptual", "args", "until", value=16)), "pack.json", "until"),
    "unknown optimizer": (lambda f: edit_json(f, set_at("optimizers", value={"magic": {}})), "pack.json", "'optimizers.magic'"),
    "bad optimizer setting": (lambda f: edit_json(f, set_at("optimizers", "adam", value={"rate": 1})), "pack.json", "'optimizers.adam'"),
    "bad schedule": (lambda f: edit_json(f, set_at("optimizers", "adam", "final_factor", value=2)), "pack.json", "'optimizers.adam' has settings that it does not take: final_factor"),
    "bad schedule of a start": (lambda f: edit_json(f, set_at("optimizers", "adam", value={"random": {"final_factor": 2}})), "pack.json", "'optimizers.adam.random' has settings that it does not take: final_factor"),
    "settings beside starts": (lambda f: edit_json(f, set_at("optimizers", "adam", value={"random": {}, "learning_rate": 1})), "pack.json", "'optimizers.adam.learning_rate' stands beside"),
    "schedule's length": (lambda f: edit_json(f, set_at("optimizers", "adam", "total_steps", value=9)), "pack.json", "total_steps"),
    "default not offered": (lambda f: edit_json(f, set_at("default_optimizer", value="magic")), "pack.json", "'default_optimizer'"),
    "path out of the pack": (lambda f: edit_json(f, set_at("files", "../x", value="0" * 64)), "pack.json", "no path inside"),
    "absolute path": (lambda f: edit_json(f, set_at("files", "/etc/passwd", value="0" * 64)), "pack.json", "no path inside"),
    "bad digest": (lambda f: edit_json(f, set_at("files", "generator.safetensors", value="0")), "pack.json", "SHA-256"),
    "file not listed": (lambda f: edit_json(f, lambda d: d["files"].pop("encoder.safetensors")), "pack.json", "encoder.safetensors"),
    "half a surrogate": (lambda f: edit_json(f, set_at("licence", value="\ud800")), "pack.json", "'licence' must be a text"),
    "file missing": (lambda f: (f / "encoder.safetensors").unlink(), "encoder.safetensors", "cannot be read"),
    "file truncated": (lambda f: cut(f / "generator.safetensors"), "generator.safetensors", "truncated or changed"),
    "truncated and signed": (lambda f: (cut(f / "generator.safetensors"), sign(f, "generator.safetensors")), "generator.safetensors", "truncated"),
    "file empty": (lambda f: (cut(f / "perceptual.safetensors", 0), sign(f, "perceptual.safetensors")), "perceptual.safetensors", "truncated"),
    "weight missing": (lambda f: edit_weights(f, lambda s: s.pop(WEIGHT)), "generator.safetensors", f"{WEIGHT!r} is missing"),
    "weight unknown": (lambda f: edit_weights(f, lambda s: s.update(x=torch.zeros(1))), "generator.safetensors", "'x' is unknown"),
    "weight of wrong shape": (lambda f: edit_weights(f, lambda s: s.update({WEIGHT: torch.zeros(2)})), "generator.safetensors", f"{WEIGHT!r} has shape (2,)"),
    "weight NaN": (lambda f: edit_weights(f, lambda s: s[WEIGHT].fill_(math.nan)), "generator.safetensors", f"{WEIGHT!r} holds"),
    "weight of wrong dtype": (lambda f: edit_weights(f, lambda s: s.update({WEIGHT: s[WEIGHT].double()})), "generator.safetensors", f"{WEIGHT!r} is torch.float64"),
    "manifest lies about widths": (lambda f: edit_json(f, set_at("generator", "mapping_dim", value=65536)), "generator.safetensors", "has shape"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_pack_is_refused_with_file_key_and_remedy(case: str, folder: Path) -> None:
    break_it, file, words = BROKEN[case]
    break_it(folder)
    with pytest.raises(PackInvalid) as caught:
        load_pack(folder)
    message = str(caught.value)
    assert str(folder / file) in message
    assert words in message
    with pytest.raises(PackInvalid):
        verify_pack(folder)


TINY_JSON = tiny_pack().manifest.to_json()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def places(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_change_of_pack_json_is_read_or_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = _shared_folder(tmp_path_factory)
    top = json.loads((folder / "pack.json").read_text())
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from([place for place in places(top) if place]))
        inner = top
        for key in path[:-1]:
            inner = inner[key]
        match data.draw(st.sampled_from(["replace", "remove", "add"])):
            case "replace":
                inner[path[-1]] = data.draw(JSON)
            case "remove":
                del inner[path[-1]]
            case _ if isinstance(inner, dict):
                inner[data.draw(st.text(max_size=8))] = data.draw(JSON)
        if not any(places(top)) or len(list(places(top))) < 2:
            break
    try:
        manifest = parse_manifest(json.dumps(top).encode("utf-8", "surrogatepass"), folder / "pack.json")
        _load_with(folder, top)
    except PackInvalid as error:
        assert str(folder) in str(error)  # noqa: PT017
    else:
        assert manifest.resolution == 16


def _shared_folder(factory: pytest.TempPathFactory) -> Path:
    folder = factory.getbasetemp() / "hypothesis-pack"
    return folder if folder.exists() else write(folder)


def _load_with(folder: Path, top: object) -> None:
    changed = folder.with_name("hypothesis-changed")
    shutil.rmtree(changed, ignore_errors=True)
    shutil.copytree(folder, changed)
    (changed / "pack.json").write_bytes(json.dumps(top).encode("utf-8", "surrogatepass"))
    try:
        load_pack(changed)
    except PackInvalid as error:
        raise PackInvalid(str(error).replace(str(changed), str(folder))) from error


# -- finding -------------------------------------------------------------------------------------------------


def test_packs_are_found_by_name_and_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "a" / "some-folder")
    shutil.copytree(tmp_path / "a" / "some-folder", tmp_path / "a" / "twin")
    bad = write(tmp_path / "b" / "bad")
    cut(bad / "pack.json")
    monkeypatch.setenv(
        PATH_VARIABLE, os.pathsep.join([str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "nowhere")])
    )
    assert load_pack("tiny").name == "tiny"
    assert load_pack(str(tmp_path / "a" / "twin")).name == "tiny"
    assert [manifest.name for manifest in list_packs()].count("tiny") == 1
    assert "bad" in caplog.text, "a broken pack is logged and hides no other"
    with pytest.raises(PackInvalid, match="no JSON"):
        load_pack("bad")
    monkeypatch.setenv(PATH_VARIABLE, str(tmp_path / "a" / "some-folder"))
    assert load_pack("tiny").name == "tiny", "a pack itself may stand in the path"


def test_a_name_comes_before_a_folder_beside_you(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    monkeypatch.delenv(PATH_VARIABLE, raising=False)
    assert load_pack("tiny").name == "tiny"


@pytest.mark.parametrize("name", ["no-such-pack", "./no/such/folder", "/nowhere", Path("nowhere")])
def test_what_is_not_there_is_said(name: str | Path) -> None:
    with pytest.raises(PackNotFound, match=r"There is no (pack|folder)"):
        load_pack(name)


def test_an_unknown_device_is_an_option(folder: Path) -> None:
    with pytest.raises(OptionInvalid, match="device is 'toaster'"):
        load_pack(folder, device="toaster")


def test_verify_notices_a_network_that_makes_nan(folder: Path) -> None:
    edit_weights(folder, lambda state: state["trunk.from_rgb.weight"].fill_(3e38), "perceptual.safetensors")
    load_pack(folder)
    with pytest.raises(PackInvalid, match=r"the perceptual network makes infinite numbers or NaN"):
        verify_pack(folder)


# -- torchvision's VGG-16 ------------------------------------------------------------------------------------


def torchvision_like() -> dict[str, torch.Tensor]:
    """Random weights with torchvision's keys and shapes."""
    generator = torch.Generator().manual_seed(0)
    plan = {0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128), 12: (256, 256), 14: (256, 256),
            17: (512, 256), 19: (512, 512), 21: (512, 512), 24: (512, 512)}  # fmt: skip
    state = {"classifier.0.weight": torch.zeros(2, 2)}
    for layer, (wide, narrow) in plan.items():
        state[f"features.{layer}.weight"] = torch.randn(wide, narrow, 3, 3, generator=generator) * math.sqrt(
            2 / narrow / 9
        )
        state[f"features.{layer}.bias"] = 0.1 * torch.randn(wide, generator=generator)
    return state


def as_torchvision_does(state: dict[str, torch.Tensor], image: torch.Tensor) -> torch.Tensor:
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = ((image + 1) / 2 - mean[:, None, None]) / std[:, None, None]
    for layer in range(23):
        if layer in (4, 9, 16):
            x = torch.nn.functional.max_pool2d(x, 2)
        elif f"features.{layer}.weight" in state:
            x = torch.nn.functional.conv2d(
                x, state[f"features.{layer}.weight"], state[f"features.{layer}.bias"], padding=1
            ).relu()
    return x


def test_imagenet_vgg_is_torchvisions_everywhere_borders_included(folder: Path, tmp_path: Path) -> None:
    state, image = torchvision_like(), tiny_targets(2)
    manifest = use_imagenet_vgg(folder, out=tmp_path / "new", source=lambda: state)
    pack = load_pack(tmp_path / "new")
    expected = as_torchvision_does(state, image)
    torch.testing.assert_close(pack.features(image), expected, rtol=1e-4, atol=1e-5)
    assert (manifest.version, manifest.perceptual.kind) == ("1+imagenet", "vgg16")
    assert pack.manifest.perceptual.args["mean_bgr"] == pytest.approx(MEAN_BGR)
    assert load_pack(folder).manifest.perceptual.kind == "discriminator", "the old pack stays"


def test_imagenet_vgg_counts_as_much_as_the_network_before(folder: Path) -> None:
    before = load_pack(folder)
    use_imagenet_vgg(folder, source=torchvision_like)
    after = load_pack(folder)
    image, target = tiny_targets(6).split(3)
    terms = [
        float((p.features(image) - p.features(target)).square().mean()) * p.perceptual_weight for p in (before, after)
    ]
    assert 1 / 3 < terms[0] / terms[1] < 3
    use_imagenet_vgg(folder, source=torchvision_like, weight=0.25)
    assert load_pack(folder).perceptual_weight == 0.25
    assert load_pack(folder).version == "1+imagenet"


def test_imagenet_keeps_half_precision_and_extra_files(tmp_path: Path) -> None:
    folder = write(tmp_path / "x", half=True, extra_files={"README.md": b"# card"})
    generator = (folder / "generator.safetensors").read_bytes()
    use_imagenet_vgg(folder, source=torchvision_like)
    assert (folder / "generator.safetensors").read_bytes() == generator
    assert (folder / "README.md").read_bytes() == b"# card"


def test_a_foreign_vgg_is_refused() -> None:
    state = torchvision_like()
    del state["features.7.bias"]
    with pytest.raises(PackInvalid, match=r"features\.7\.bias"):
        convert_torchvision(state)

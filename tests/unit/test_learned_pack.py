"""Learned optimizers in packs: the format, its faults, which weights a job takes, training and use by command."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from inversion_core import InvertConfig, invert
from inversion_core.cli import main
from inversion_core.errors import OptionInvalid, PackInvalid
from inversion_core.inverter import Checkpoint, make_optimizer
from inversion_core.latents import as_latent
from inversion_core.optimizers import CLASSIC, Adam
from inversion_core.optimizers.designs import DESIGNS
from inversion_core.optimizers.learned import Learned
from inversion_core.packs import (
    Pack,
    Variant,
    load_pack,
    put_directions,
    put_learned,
    read_manifest,
    save_pack,
    verify_pack,
)
from inversion_core.packs.imagenet import use_imagenet_vgg
from inversion_core.pictures import to_image
from inversion_core.training.data import pack_pictures
from inversion_core.training.run import CHECKPOINT, read_checkpoint, read_facts
from tests.stepping import begun
from tests.tiny import tiny_pack, tiny_targets

pytestmark = pytest.mark.unit
SETTINGS = {"hidden": 5, "learning_rate": 0.05}
ENCODER, RANDOM = Variant("learned", "encoder"), Variant("learned", "random")
LAST = "joint_mlp.layers.3.bias_L1O"


def network(seed: int) -> torch.nn.Module:
    """A network that is not Adam, other for each seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = DESIGNS["learned"].build(SETTINGS, num_layers=6, w_dim=12)
        torch.nn.init.normal_(made.get_parameter("joint_mlp.layers.3.weight_LIO"), std=0.3)
    return made


def write(folder: Path, *, has_encoder: bool = True, half: bool = False) -> Path:
    pack = tiny_pack(has_encoder=has_encoder)
    save_pack(folder, pack.manifest, generator=pack.generator, perceptual=pack.perceptual, encoder=pack.encoder,
              half=half, extra_files={"README.md": b"# tiny"})  # fmt: skip
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny pack with weights for both starts."""
    write(tmp_path / "tiny")
    put_learned(tmp_path / "tiny", ENCODER, SETTINGS, network(1))
    put_learned(tmp_path / "tiny", RANDOM, SETTINGS, network(2))
    return tmp_path / "tiny"


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    top = json.loads((folder / "pack.json").read_text())
    edit(top)
    (folder / "pack.json").write_text(json.dumps(top))


def change_weights(folder: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Edit the encoder's weights, with the SHA-256 as it should be."""
    tensors = load_file(folder / ENCODER.file)
    edit(tensors)
    save_file(tensors, folder / ENCODER.file)
    digest = hashlib.sha256((folder / ENCODER.file).read_bytes()).hexdigest()
    change(folder, lambda top: top["files"].update({ENCODER.file: digest}))


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[key]) for key, value in one.state_dict().items())


# -- the format ----------------------------------------------------------------------------------------------


def test_what_is_put_in_comes_back_frozen_and_is_offered(folder: Path) -> None:
    pack = load_pack(folder)
    assert same(pack.learned[ENCODER], network(1))
    assert same(pack.learned[RANDOM], network(2))
    assert not any(p.requires_grad for net in pack.learned.values() for p in net.parameters())
    assert {p.dtype for net in pack.learned.values() for p in net.parameters()} == {torch.float32}
    assert set(pack.optimizers) == {*CLASSIC, "learned"}
    assert pack.optimizers["learned"] == {"encoder": SETTINGS, "random": SETTINGS}
    assert verify_pack(folder) == pack.manifest


def test_putting_one_in_keeps_all_else(folder: Path) -> None:
    before = read_manifest(folder)
    written = put_learned(folder, ENCODER, {"hidden": 3, "learning_rate": 0.01}, DESIGNS["learned"].build(
        {"hidden": 3}, num_layers=6, w_dim=12))  # fmt: skip
    changed = {name for name, digest in written.files.items() if before.files.get(name) != digest}
    assert changed == {ENCODER.file}
    assert written.optimizers["adam"] == before.optimizers["adam"]
    assert (folder / "README.md").read_bytes() == b"# tiny"
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"], "no scratch folder stays"
    pack = load_pack(folder)
    assert pack.optimizers["learned"]["encoder"]["hidden"] == 3
    assert same(pack.learned[RANDOM], network(2))


def test_a_half_pack_takes_it_as_float16(tmp_path: Path) -> None:
    folder = write(tmp_path / "half", half=True)
    put_learned(folder, ENCODER, SETTINGS, network(1))
    assert {value.dtype for value in load_file(folder / ENCODER.file).values()} == {torch.float16}
    loaded = load_pack(folder).learned[ENCODER]
    for key, value in network(1).state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[key], value, rtol=1e-3, atol=1e-4)


def test_other_changes_of_a_pack_keep_it(folder: Path, tmp_path: Path) -> None:
    put_directions(folder, [])
    assert same(load_pack(folder).learned[ENCODER], network(1))
    pack = load_pack(folder)
    networks: dict[str, Any] = {"generator": pack.generator, "perceptual": pack.perceptual, "encoder": pack.encoder}
    save_pack(tmp_path / "copy", pack.manifest, **networks, learned=pack.learned)
    assert same(load_pack(tmp_path / "copy").learned[RANDOM], network(2))
    with pytest.raises(PackInvalid, match="learned-encoder"):
        save_pack(tmp_path / "without", pack.manifest, **networks)
    with pytest.raises(ValueError, match="learned-encoder"):
        Pack(pack.manifest, **networks)


def test_a_pack_of_another_perceptual_network_keeps_it(folder: Path) -> None:
    shapes = torch_vgg()
    use_imagenet_vgg(folder, source=lambda: shapes)
    assert same(load_pack(folder).learned[ENCODER], network(1))


def torch_vgg() -> dict[str, torch.Tensor]:
    plan = {0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128), 12: (256, 256), 14: (256, 256),
            17: (512, 256), 19: (512, 512), 21: (512, 512)}  # fmt: skip
    weights = {f"features.{k}.weight": torch.full((wide, narrow, 3, 3), 1e-3) for k, (wide, narrow) in plan.items()}
    return weights | {f"features.{k}.bias": torch.zeros(wide) for k, (wide, _) in plan.items()}


def test_it_vouches_for_no_damaged_file_and_writes_no_nan(folder: Path) -> None:
    before = (folder / "pack.json").read_bytes()
    spoilt = network(3)
    torch.nn.init.constant_(spoilt.get_parameter(LAST), float("nan"))
    with pytest.raises(PackInvalid, match=r"learned-encoder\.safetensors.*NaN"):
        put_learned(folder, ENCODER, SETTINGS, spoilt)
    (folder / "README.md").write_bytes(b"# changed")
    with pytest.raises(PackInvalid, match=r"README\.md"):
        put_learned(folder, ENCODER, SETTINGS, network(3))
    assert (folder / "pack.json").read_bytes() == before


SPOILT: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "start unknown": (lambda f: change(f, lambda t: t["optimizers"]["learned"].update(moon=SETTINGS)), "pack.json", "'optimizers.learned.moon' is no start"),
    "no start": (lambda f: change(f, lambda t: t["optimizers"].update(learned={})), "pack.json", "'optimizers.learned.encoder' is missing"),
    "no object": (lambda f: change(f, lambda t: t["optimizers"].update(learned=3)), "pack.json", "'optimizers.learned' must be"),
    "settings no object": (lambda f: change(f, lambda t: t["optimizers"]["learned"].update(random=3)), "pack.json", "'optimizers.learned.random' must be"),
    "setting missing": (lambda f: change(f, lambda t: t["optimizers"]["learned"]["encoder"].pop("hidden")), "pack.json", "'optimizers.learned.encoder.hidden' is missing"),
    "setting unknown": (lambda f: change(f, lambda t: t["optimizers"]["learned"]["encoder"].update(w_dim=3)), "pack.json", "'optimizers.learned.encoder.w_dim' is unknown"),
    "setting of wrong kind": (lambda f: change(f, lambda t: t["optimizers"]["learned"]["encoder"].update(hidden="5")), "pack.json", "'optimizers.learned.encoder.hidden' must be"),
    "width 0": (lambda f: change(f, lambda t: t["optimizers"]["learned"]["encoder"].update(hidden=0)), "pack.json", "'optimizers.learned.encoder.hidden' is 0"),
    "many layers": (lambda f: change(f, lambda t: t["optimizers"].update({"learned-lstm": {"random": {"hidden": 4, "depth": 60_000}}})), "pack.json", "'optimizers.learned-lstm.random.depth' is 60000; at most 64"),
    "rate 0": (lambda f: change(f, lambda t: t["optimizers"]["learned"]["encoder"].update(learning_rate=0)), "pack.json", "'optimizers.learned.encoder.learning_rate' is 0"),
    "a lie about the width": (lambda f: change(f, lambda t: t["optimizers"]["learned"]["encoder"].update(hidden=65536)), ENCODER.file, "has shape"),
    "not listed": (lambda f: change(f, lambda t: t["files"].pop(ENCODER.file)), "pack.json", f"does not list {ENCODER.file}"),
    "file missing": (lambda f: (f / RANDOM.file).unlink(), RANDOM.file, "cannot be read"),
    "file changed": (lambda f: (f / ENCODER.file).write_bytes(b"x"), ENCODER.file, "truncated or changed"),
    "weight missing": (lambda f: change_weights(f, lambda s: s.pop(LAST)), ENCODER.file, f"{LAST!r} is missing"),
    "weight unknown": (lambda f: change_weights(f, lambda s: s.update(x=torch.zeros(1))), ENCODER.file, "'x' is unknown"),
    "wrong shape": (lambda f: change_weights(f, lambda s: s.update({LAST: torch.zeros(2)})), ENCODER.file, f"{LAST!r} has shape (2,)"),
    "infinite": (lambda f: change_weights(f, lambda s: s[LAST].fill_(float("inf"))), ENCODER.file, f"{LAST!r} holds"),
    "float64": (lambda f: change_weights(f, lambda s: s.update({LAST: s[LAST].double()})), ENCODER.file, f"{LAST!r} is torch.float64"),
}  # fmt: skip


@pytest.mark.parametrize("case", SPOILT)
def test_a_fault_is_named_with_file_key_and_remedy(case: str, folder: Path) -> None:
    spoil, file, words = SPOILT[case]
    spoil(folder)
    with pytest.raises(PackInvalid) as caught:
        load_pack(folder)
    assert str(folder / file) in str(caught.value)
    assert words in str(caught.value)
    assert "Copy the pack again" in str(caught.value)


def test_verify_notices_weights_that_make_infinite_codes(folder: Path) -> None:
    change_weights(folder, lambda tensors: [value.fill_(1e30) for value in tensors.values()])
    load_pack(folder)
    with pytest.raises(PackInvalid, match="optimizer learned-encoder makes infinite numbers"):
        verify_pack(folder)


# -- the generator it was trained for --------------------------------------------------------------------------


def change_generator(folder: Path) -> None:
    """Give the pack another generator of the same shapes, with the SHA-256 as it should be."""
    other = tiny_pack(seed=1)
    state = {key: value.contiguous() for key, value in other.generator.state_dict().items()}
    save_file(state, folder / "generator.safetensors")
    digest = hashlib.sha256((folder / "generator.safetensors").read_bytes()).hexdigest()
    change(folder, lambda top: top["files"].update({"generator.safetensors": digest}))


def test_weights_for_another_generator_are_refused(folder: Path) -> None:
    before = read_manifest(folder).files["generator.safetensors"]
    change_generator(folder)
    with pytest.raises(PackInvalid) as caught:
        load_pack(folder)
    assert str(folder / ENCODER.file) in str(caught.value)
    for words in (before, "another generator", "Put that generator back, or train"):
        assert words in str(caught.value)
    put_learned(folder, ENCODER, SETTINGS, network(1))
    put_learned(folder, RANDOM, SETTINGS, network(2))
    load_pack(folder)


def test_weights_of_before_the_generator_was_kept_still_load(folder: Path) -> None:
    change_weights(folder, lambda tensors: None)  # writes no metadata
    change_generator(folder)
    with pytest.raises(PackInvalid, match=RANDOM.file):
        load_pack(folder)
    put_learned(folder, RANDOM, SETTINGS, network(2))
    assert same(load_pack(folder).learned[ENCODER], network(1))


def test_a_pack_that_is_written_anew_ties_them_to_the_generator_as_written(folder: Path, tmp_path: Path) -> None:
    pack = load_pack(folder)
    save_pack(tmp_path / "half", pack.manifest, generator=pack.generator, perceptual=pack.perceptual,
              encoder=pack.encoder, learned=pack.learned, half=True)  # fmt: skip
    load_pack(tmp_path / "half")
    change_generator(tmp_path / "half")
    with pytest.raises(PackInvalid, match="another generator"):
        load_pack(tmp_path / "half")


# -- which weights a job takes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "has_code", "variant"),
    [("encoder", False, ENCODER), (None, False, ENCODER), ("random", False, RANDOM), ("mean", False, RANDOM),
     ("mean", True, ENCODER)],
)  # fmt: skip
def test_the_start_chooses_the_weights(folder: Path, start: str | None, has_code: bool, variant: Variant) -> None:
    pack = load_pack(folder)
    optimizer = make_optimizer(
        pack, InvertConfig(optimizer="learned", start=start), start=as_latent(pack.mean_codes()) if has_code else None
    )
    assert isinstance(optimizer, Learned)
    assert optimizer.network is pack.learned[variant]


def test_a_code_handed_in_takes_the_encoders(folder: Path) -> None:
    pack, target = load_pack(folder), tiny_targets(1)
    code_BLD = pack.mean_codes()

    def last(variant: str, code: torch.Tensor | None) -> torch.Tensor:
        config = InvertConfig(optimizer="learned", num_steps=3, start=variant)
        return list(invert(pack, target, config, start_BLD=code))[-1].w_BLD

    handed_in, mean = last("mean", code_BLD), last("mean", None)
    assert not torch.equal(handed_in, mean)
    assert torch.equal(handed_in, last("encoder", code_BLD))


@pytest.mark.parametrize("only", [ENCODER, RANDOM])
def test_the_only_weights_serve_every_start(tmp_path: Path, only: Variant) -> None:
    folder = write(tmp_path / "one")
    put_learned(folder, only, SETTINGS, network(1))
    pack = load_pack(folder)
    for start in ("encoder", "mean", "random"):
        optimizer = make_optimizer(pack, InvertConfig(optimizer="learned", start=start))
        assert isinstance(optimizer, Learned)
        assert optimizer.network is pack.learned[only]


def test_it_can_be_the_default(folder: Path) -> None:
    change(folder, lambda top: top.update(default_optimizer="learned"))
    assert isinstance(make_optimizer(load_pack(folder), InvertConfig()), Learned)


def test_it_takes_no_learning_rate(folder: Path) -> None:
    with pytest.raises(OptionInvalid, match=r"learning_rate is 0\.1.*'learned' takes none"):
        make_optimizer(load_pack(folder), InvertConfig(optimizer="learned", learning_rate=0.1))


def test_a_pack_without_weights_does_not_offer_it() -> None:
    with pytest.raises(OptionInvalid, match="optimizer is 'learned'; pack tiny offers"):
        make_optimizer(tiny_pack(), InvertConfig(optimizer="learned"))


# -- a job ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["encoder", "random"])
def test_a_resumed_job_equals_an_unbroken_one(folder: Path, start: str) -> None:
    pack, target = load_pack(folder), tiny_targets(2)
    config = InvertConfig(optimizer="learned", num_steps=6, start=start)
    whole = list(invert(pack, target, config))
    kept = Checkpoint.from_bytes(whole[3].checkpoint().to_bytes())
    rest = list(invert(load_pack(folder), target, config, resume=kept))
    assert [step.index for step in rest] == [3, 4, 5, 6]
    for ours, theirs in zip(rest, whole[3:], strict=True):
        assert torch.equal(ours.w_BLD, theirs.w_BLD)
        assert torch.equal(ours.loss_B, theirs.loss_B)
        assert not ours.w_BLD.requires_grad


def test_its_state_is_adams(folder: Path) -> None:
    pack = load_pack(folder)
    *_, last = invert(pack, tiny_targets(1), InvertConfig(optimizer="learned", num_steps=2))
    assert type(last.state) is type(begun(Adam(), pack.mean_codes()))


# -- training and use by command -----------------------------------------------------------------------------


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Pictures that differ: random blocks of colour."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    draw = np.random.default_rng(0)
    for k in range(24):
        blocks = draw.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize((16, 16), Image.Resampling.NEAREST).save(pictures / f"{k}.png")
    pack_pictures([pictures], tmp_path / "data.npz", 16)
    return tmp_path / "data.npz"


def train(pack: Path, archive: Path, out: Path, *more: str) -> int:
    small = "--hidden 4 --learning-rate 0.05 --iterations 3 --batch 2 --pairs 8 --rate 0.003 --real 3 --held-out 8"
    command = ["train", "optimizer", str(pack), "--data", str(archive), "--out", str(out), *small.split()]
    return main([*command, "--max-pictures", "8", "--evaluate-every", "2", "--device", "cpu", *more])


@pytest.mark.parametrize("start", ["encoder", "random"])
def test_from_training_to_a_job(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], start: str) -> None:
    pack, run = write(tmp_path / "pack"), tmp_path / "run"
    assert train(pack, archive, run, "--start", start) == 0
    assert "8 training pictures; best loss within 3 steps on 3 real pictures" in capsys.readouterr().out
    assert main(["pack", "add-optimizer", str(pack), str(run)]) == 0
    assert f"learned-{start}.safetensors" in capsys.readouterr().out
    tensors, facts = read_checkpoint(run / CHECKPOINT)
    assert facts is not None
    assert facts["best_loss"] <= facts["untrained_loss"]
    loaded = load_pack(pack).learned[Variant("learned", start)].state_dict()
    assert all(torch.equal(value, tensors[f"best/{key.replace('.', '/')}"]) for key, value in loaded.items())
    to_image(tiny_targets(1)[0]).resize((80, 96)).save(tmp_path / "photo.png")
    command = ["invert", str(tmp_path / "photo.png"), "--out", str(tmp_path / "out"), "--pack", str(pack)]
    assert main([*command, "--optimizer", "learned", "--steps", "3", "--no-align", "--device", "cpu"]) == 0
    assert len((tmp_path / "out" / "photo" / "losses.csv").read_text().splitlines()) == 5


def test_of_a_pack_that_ships_a_copy_or_an_extension_takes_the_run(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    packs = tmp_path / "prefix" / "share" / "stylegan-inversion" / "packs"
    pack, run, out = write(packs / "tiny"), tmp_path / "run", tmp_path / "copy"
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    assert train(pack, archive, run, "--start", "encoder") == 0
    add = ["pack", "add-optimizer", str(pack), str(run)]
    assert f"put it into a copy of the pack with: inversion {' '.join(add)} --out DIR" in capsys.readouterr().err
    assert main(add) == 2
    assert "ships with the program" in capsys.readouterr().err
    assert main([*add, "--out", str(out)]) == 0
    assert f"inversion pack change {out} --default-optimizer learned" in capsys.readouterr().out
    assert main(["pack", "extend", "tiny", "--out", str(tmp_path / "more"), "--name", "more"]) == 0
    assert main(["pack", "add-optimizer", str(tmp_path / "more"), str(run)]) == 0
    assert same(load_pack(tmp_path / "more").learned[ENCODER], load_pack(out).learned[ENCODER])
    assert read_manifest(pack).learned == {}


def test_a_run_in_two_parts_equals_one_in_one(archive: Path, tmp_path: Path) -> None:
    pack = write(tmp_path / "pack")
    assert train(pack, archive, tmp_path / "whole") == 0
    assert train(pack, archive, tmp_path / "parts", "--until", "4") == 0
    assert train(pack, archive, tmp_path / "parts") == 0
    whole, parts = (read_checkpoint(tmp_path / name / CHECKPOINT) for name in ("whole", "parts"))
    assert whole[1] == parts[1]
    assert all(torch.equal(parts[0][key], value) for key, value in whole[0].items())


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--hidden", "5"], "holds a run with settings"), (["--start", "random"], "holds a run with start"),
        (["--batch", "3"], "holds a run with batch_size"),
    ],
)  # fmt: skip
def test_another_run_is_not_gone_on_with(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], words: str
) -> None:
    pack = write(tmp_path / "pack")
    assert train(pack, archive, tmp_path / "run", "--until", "2") == 0
    assert train(pack, archive, tmp_path / "run", *more) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--hidden", "0"], "hidden"), (["--real", "99"], "--real is 99"), (["--unroll", "0"], "unroll"),
        (["--held-out", "99"], "too few to hold out"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_named(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], words: str
) -> None:
    assert train(write(tmp_path / "pack"), archive, tmp_path / "run", *more) == 2
    assert words in capsys.readouterr().err


def test_an_encoder_start_needs_an_encoder(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack = write(tmp_path / "pack", has_encoder=False)
    assert train(pack, archive, tmp_path / "run", "--start", "encoder") == 2
    assert "has no encoder" in capsys.readouterr().err
    assert train(pack, archive, tmp_path / "run", "--until", "2") == 0  # random, then


def test_a_run_goes_into_its_own_pack_alone(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack = write(tmp_path / "pack")
    assert main(["pack", "add-optimizer", str(pack), str(tmp_path)]) == 2
    assert "holds no run of a learned optimizer" in capsys.readouterr().err
    assert train(pack, archive, tmp_path / "run", "--until", "2") == 0
    change(pack, lambda top: top.update(name="other"))
    assert main(["pack", "add-optimizer", str(pack), str(tmp_path / "run")]) == 2
    assert "was made with pack tiny" in capsys.readouterr().err


def test_a_run_goes_to_its_own_generator_alone(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack, run = write(tmp_path / "pack"), tmp_path / "run"
    assert train(pack, archive, run, "--until", "2") == 0
    change_generator(pack)
    assert main(["pack", "add-optimizer", str(pack), str(run)]) == 2
    assert "was made with another generator" in capsys.readouterr().err
    assert train(pack, archive, run) == 2
    assert "holds a run with generator_sha256" in capsys.readouterr().err


def test_a_run_of_before_the_generator_was_kept_goes_on(archive: Path, tmp_path: Path) -> None:
    pack, run = write(tmp_path / "pack"), tmp_path / "run"
    assert train(pack, archive, run, "--until", "2") == 0
    tensors, facts = read_checkpoint(run / CHECKPOINT)
    assert facts is not None
    digest = facts.pop("generator_sha256")
    save_file(tensors, run / CHECKPOINT, {"facts": json.dumps(facts)})
    assert main(["pack", "add-optimizer", str(pack), str(run)]) == 0
    assert train(pack, archive, run, "--until", "4") == 0
    facts = read_facts(run / CHECKPOINT)
    assert facts is not None
    assert (facts["batch"], facts["generator_sha256"]) == (2, digest)


def test_a_run_of_before_a_setting_came_goes_on(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack, run = write(tmp_path / "pack"), tmp_path / "run"
    assert train(pack, archive, run, "--until", "2") == 0
    tensors, facts = read_checkpoint(run / CHECKPOINT)
    assert facts is not None
    del facts["settings"]["beta1"]
    save_file(tensors, run / CHECKPOINT, {"facts": json.dumps(facts)})
    assert train(pack, archive, run, "--until", "4", "--beta1", "0.8") == 2
    assert "holds a run with settings" in capsys.readouterr().err
    assert train(pack, archive, run, "--until", "4") == 0
    assert (read_facts(run / CHECKPOINT) or {})["settings"]["beta1"] == 0.9

"""Training on a handful of drawn pictures: it learns, it resumes to the step, and it ends in a pack."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from inversion_core import InvertConfig, invert
from inversion_core.benchmark.features import embedders
from inversion_core.benchmark.samples import SamplesConfig, measure_samples
from inversion_core.cli import main
from inversion_core.errors import OptionInvalid, PackInvalid
from inversion_core.models import Discriminator
from inversion_core.models.discriminator import minibatch_stddev
from inversion_core.models.layers import EqualizedConv2d
from inversion_core.models.lpips import LPIPSSqueeze, load_lpips
from inversion_core.optimizers import CLASSIC
from inversion_core.packs import load_pack, verify_pack
from inversion_core.training.calibration import calibrate, lowest_by_steps
from inversion_core.training.data import Packed, likeness_groups, load_pictures, pack_pictures
from inversion_core.training.encoder import EncoderTrainer, EncoderTraining
from inversion_core.training.export import assemble, write
from inversion_core.training.generator import GeneratorTrainer, GeneratorTraining
from inversion_core.training.precision import faster_precision
from inversion_core.training.run import CHECKPOINT, RunFolder, read_checkpoint
from inversion_core.training.schedule import rate_factor
from tests.tiny import DISCRIMINATOR, ENCODER, GENERATOR, save_networks, tiny_pack


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 pictures of 16 px: a bright disc on a dark ground, of random place and colours."""
    folder = tmp_path_factory.mktemp("pictures")
    draw = np.random.default_rng(0)
    rows, columns = np.mgrid[:16, :16]
    for index in range(48):
        y, x = draw.uniform(4, 12, 2)
        disc = ((rows - y) ** 2 + (columns - x) ** 2 < 12)[..., None]
        picture = np.where(disc, draw.integers(128, 255, 3), draw.integers(0, 100, 3)).astype(np.uint8)
        Image.fromarray(picture).save(folder / f"{index:02d}.png")
    out = folder / "discs.npz"
    assert pack_pictures([folder], out, 16) == Packed(count=48, broken=())
    return out


def trainer(archive: Path, run: Path, **changes: Any) -> GeneratorTrainer:
    settings = {"reconstruction_steps": 6, "adversarial_steps": 4, "batch_size": 4, "warmup_steps": 1, "mapping_fit_steps": 20,
                **changes}  # fmt: skip
    config = GeneratorTraining(generator=GENERATOR, encoder=ENCODER, discriminator=DISCRIMINATOR, **settings)
    return GeneratorTrainer(config, *load_pictures(archive, held_out=8), RunFolder(run))


def test_the_split_keeps_likeness_groups_whole(archive: Path) -> None:
    training, held_out = load_pictures(archive, held_out=8)
    assert len(training) + len(held_out) == 48
    assert len(held_out) >= 8
    assert not set(training.names) & set(held_out.names)
    picture = training.pictures_NCHW[:1].permute(0, 2, 3, 1).numpy()
    twins = np.concatenate([picture, 255 - picture, np.clip(picture.astype(int) + 3, 0, 255).astype(np.uint8)])
    assert likeness_groups(twins).tolist() == [0, 1, 0]
    mirrored = np.concatenate([twins[:2], twins[:1, :, ::-1]])
    assert likeness_groups(mirrored).tolist() == [0, 1, 0]
    apart = training.pictures_NCHW[:20].permute(0, 2, 3, 1).numpy()
    assert len(set(likeness_groups(apart).tolist())) > 10  # pictures of one kind are not all alike


def test_a_batch_is_the_same_for_the_same_number_and_seed(archive: Path) -> None:
    training, _ = load_pictures(archive, held_out=8)
    batch = training.batch(2, 4, seed=3)
    assert torch.equal(training.batch(2, 4, seed=3), batch)
    assert not torch.equal(training.batch(3, 4, seed=3), batch)
    assert not torch.equal(training.batch(2, 4, seed=4), batch)
    assert batch.min() >= -1
    assert batch.max() <= 1


def test_an_archive_of_another_kind_is_refused(tmp_path: Path, archive: Path) -> None:
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(OptionInvalid, match="inversion train data"):
        load_pictures(tmp_path / "other.npz", held_out=8)
    with pytest.raises(OptionInvalid, match="too few"):
        load_pictures(archive, held_out=48)


def test_the_autoencoder_learns(archive: Path, tmp_path: Path) -> None:
    learner = trainer(archive, tmp_path / "run", reconstruction_steps=80, batch_size=8)
    before = learner.measure()["held_out_mse"]
    learner.run(until=80)
    assert learner.measure()["held_out_mse"] < 0.6 * before


ADAPTIVE = {"augment_probability": 0.2, "augment_target": 0.6, "augment_images": 100}
RECIPES: dict[str, dict[str, Any]] = {
    "both phases": {},
    "adaptive, batches of two sizes": {**ADAPTIVE, "adversarial_batch_size": 6, "r1_every": 2},
    "adversarial from nothing": {
        **ADAPTIVE,
        "reconstruction_steps": 0,
        "adversarial_steps": 10,
        "reconstruction_weight": 0.0,
    },
    "samples alone are judged": {"judges_reconstructions": False, "adversarial_weight": 1.0},
    "reconstruction alone": {"reconstruction_steps": 10, "adversarial_steps": 0},
}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
def test_a_resumed_run_equals_an_unbroken_one(archive: Path, tmp_path: Path, recipe: dict[str, Any]) -> None:
    trainer(archive, tmp_path / "whole", **recipe).run()
    for until in (3, 8, 10):
        trainer(archive, tmp_path / "broken", **recipe).run(until=until)
    equal_checkpoints(tmp_path / "whole", tmp_path / "broken")


def equal_checkpoints(first: Path, second: Path) -> None:
    whole, _ = read_checkpoint(first / CHECKPOINT)
    broken, facts = read_checkpoint(second / CHECKPOINT)
    assert facts is not None
    assert facts["step"] == 10
    assert whole.keys() == broken.keys()
    for key, value in whole.items():
        torch.testing.assert_close(broken[key], value, rtol=1e-4, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}")


def test_an_adapting_probability_is_kept_and_logged(archive: Path, tmp_path: Path) -> None:
    learner = trainer(archive, tmp_path, **ADAPTIVE, reconstruction_steps=0, adversarial_steps=8)
    learner.run(until=4)
    tensors, _ = read_checkpoint(tmp_path / CHECKPOINT)
    assert float(tensors["augment/probability"]) in (pytest.approx(0.36), pytest.approx(0.04))  # 16 of 100 pictures
    losses = learner.train_step(learner.pictures.batch(8, 4, 0))
    assert {"augment_p", "d_sign", "g", "d"} <= losses.keys()


def test_a_run_of_another_architecture_is_refused(archive: Path, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.save({"net": torch.nn.Linear(3, 2)}, {}, {"step": 1})
    with pytest.raises(OptionInvalid, match=r"another architecture .*or another --out"):
        folder.load({"net": torch.nn.Linear(4, 2)}, {})


def test_a_run_of_an_earlier_version_goes_on(archive: Path, tmp_path: Path) -> None:
    """Its configuration lacks the newer fields: their defaults leave it as it was."""
    trainer(archive, tmp_path).run(until=8)
    _, facts = read_checkpoint(tmp_path / CHECKPOINT)
    assert facts is not None
    old = {key: value for key, value in facts["config"].items() if key in FIELDS_OF_0_1}
    assert len(old) == len(FIELDS_OF_0_1)
    old |= {"generator": GENERATOR, "encoder": ENCODER, "discriminator": DISCRIMINATOR}
    config = GeneratorTraining(**old)
    assert config.augment_target is None
    assert config.fade_images == 0
    resumed = GeneratorTrainer(config, *load_pictures(archive, held_out=8), RunFolder(tmp_path))
    resumed.run()
    assert resumed.step == 10


FIELDS_OF_0_1 = [
    "generator",
    "encoder",
    "discriminator",
    "reconstruction_steps",
    "adversarial_steps",
    "batch_size",
    "generator_rate",
    "encoder_rate",
    "adversarial_rate",
    "warmup_steps",
    "final_rate",
    "lpips_weight",
    "delta_weight",
    "norm_weight",
    "code_noise",
    "adversarial_weight",
    "r1_gamma",
    "r1_every",
    "mapping_fit_steps",
    "mixing_probability",
    "augment_probability",
    "ema_images",
    "seed",
]


def test_the_encoder_rests_where_reconstruction_has_no_weight(archive: Path, tmp_path: Path) -> None:
    learner = trainer(archive, tmp_path, **RECIPES["adversarial from nothing"])
    before = {name: [p.clone() for p in module.parameters()] for name, module in learner.modules().items()}
    learner.train_step(learner.pictures.batch(0, 4, 0))
    for name, module in learner.modules().items():
        moved = any(not torch.equal(old, new) for old, new in zip(before[name], module.parameters(), strict=True))
        assert moved == (name in ("g", "d", "g_ema")), name


def test_kinds_of_pictures_are_judged_in_one_call_but_in_groups_of_their_own(archive: Path, tmp_path: Path) -> None:
    adversary = trainer(archive, tmp_path, augment_probability=0.0).adversary
    a, b = torch.rand(4, 3, 16, 16), -torch.rand(4, 3, 16, 16)
    together = adversary.judge(a, b)
    torch.testing.assert_close(together[0], adversary.d(a))
    torch.testing.assert_close(together[1], adversary.d(b))
    assert not torch.allclose(adversary.d(torch.cat([a, b]))[:4], together[0])


def test_a_convolution_with_its_halving_is_one_convolution() -> None:
    for kernel_size in (1, 3):
        convolution = EqualizedConv2d(3, 5, kernel_size)
        torch.nn.init.normal_(convolution.bias)
        image = torch.randn(2, 3, 8, 8)
        expected = torch.nn.functional.avg_pool2d(convolution(image), 2)
        torch.testing.assert_close(convolution.halved(image), expected, rtol=1e-4, atol=1e-5)


def test_folded_kernels_are_the_same_and_none_of_the_saved_weights() -> None:
    convolution, image = EqualizedConv2d(3, 5), torch.randn(2, 3, 8, 8)
    plain, halved, keys = convolution(image), convolution.halved(image), list(convolution.state_dict())
    convolution.fold()
    torch.testing.assert_close(convolution(image), plain)
    convolution.fold(halves=True)
    torch.testing.assert_close(convolution.halved(image), halved)
    assert list(convolution.state_dict()) == keys
    convolution.weight.data.zero_()
    torch.testing.assert_close(convolution.halved(image), halved)
    convolution.unfold()
    assert not convolution.halved(image).any()


def test_r1_is_the_squared_gradient_at_what_is_seen(archive: Path, tmp_path: Path) -> None:
    adversary = trainer(archive, tmp_path, augment_probability=0.0).adversary
    real = torch.rand(4, 3, 16, 16)
    _, penalty = adversary._judge_with_r1(real)
    direction = torch.randn_like(real)
    real.requires_grad_()
    (gradient,) = torch.autograd.grad(adversary.d(real).sum(), real)
    assert float(penalty.detach()) == pytest.approx(float(gradient.square().sum() / 4), rel=1e-4)
    with torch.no_grad():
        ahead, behind = (adversary.d(real + sign * 1e-2 * direction).sum() for sign in (1, -1))
    assert float((ahead - behind) / 2e-2) == pytest.approx(float((gradient * direction).sum()), rel=0.05)
    penalty.backward()
    assert adversary.d.trunk.from_rgb.weight.grad is not None


def test_bfloat16_keeps_pictures_logits_and_r1_in_float32(archive: Path, tmp_path: Path) -> None:
    learner = trainer(archive, tmp_path, precision="bfloat16", reconstruction_steps=0, r1_every=1)
    losses = learner.train_step(learner.pictures.batch(0, 4, 0))
    assert {value.dtype for value in losses.values()} == {torch.float32}
    assert all(torch.isfinite(value) for value in losses.values())
    plain = trainer(archive, tmp_path / "other", reconstruction_steps=0, r1_every=1)
    in_float32 = plain.train_step(plain.pictures.batch(0, 4, 0))
    assert float(losses["reconstruction"]) == pytest.approx(float(in_float32["reconstruction"]), rel=0.05)
    assert losses["reconstruction"] != in_float32["reconstruction"]


class Questions(TorchDispatchMode):
    """Counts what makes the host wait for the device: it asks for a number, or for a shape that depends on one."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if op.overloadpacket.__name__ in ("_local_scalar_dense", "nonzero", "equal", "masked_select"):
            self.asked.append(str(op))
        return op(*args, **(kwargs or {}))


@pytest.mark.parametrize("step", [0, 6, 16], ids=["reconstruction", "adversarial", "with R1"])
def test_a_step_lets_the_host_run_ahead(archive: Path, tmp_path: Path, step: int) -> None:
    learner = trainer(archive, tmp_path, **ADAPTIVE, mapping_fit_steps=0, jitter_probability=0.5, face_weight=2.0)
    learner.step = step
    with Questions() as questions:
        losses = learner.train_step(learner.pictures.batch(step, 4, 0))
        assert questions.asked == []
        float(losses["reconstruction"])
    assert len(questions.asked) == 1


def test_the_precision_is_measured() -> None:
    chosen, times_ms = faster_precision("cpu", repeats=1)
    assert times_ms.keys() == {"float32", "bfloat16"}
    assert min(times_ms.values()) > 0
    assert chosen == "float32" or times_ms["bfloat16"] < times_ms["float32"]


def encoder_trainer(archive: Path, run: Path, **changes: Any) -> EncoderTrainer:
    config = EncoderTraining(encoder=ENCODER, **{"steps": 10, "batch_size": 4, "warmup_steps": 1, **changes})
    return EncoderTrainer(config, tiny_pack(), *load_pictures(archive, held_out=8), RunFolder(run))


@pytest.mark.parametrize(
    "changes",
    [{}, {"discriminator": DISCRIMINATOR, **ADAPTIVE}],
    ids=["alone", "with a discriminator"],
)
def test_a_resumed_encoder_run_equals_an_unbroken_one(archive: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    encoder_trainer(archive, tmp_path / "whole", **changes).run()
    for until in (3, 10):
        encoder_trainer(archive, tmp_path / "broken", **changes).run(until=until)
    equal_checkpoints(tmp_path / "whole", tmp_path / "broken")


def test_the_discriminator_has_its_say_in_the_encoder(archive: Path, tmp_path: Path) -> None:
    """The same step with and without its term gives other weights, and the discriminator itself learns."""
    runs = [
        encoder_trainer(archive, tmp_path / name, discriminator=DISCRIMINATOR, adversarial_weight=weight)
        for name, weight in (("with", 1.0), ("without", 0.0))
    ]
    logits = [run.adversary.d(torch.ones(4, 3, 16, 16)).detach() for run in runs if run.adversary]
    for run in runs:
        run.train_step(run.pictures.batch(0, 4, 0))
    assert not torch.equal(runs[0].e.head.weight, runs[1].e.head.weight)
    assert runs[0].adversary is not None
    assert not torch.equal(runs[0].adversary.d(torch.ones(4, 3, 16, 16)), logits[0])


def test_a_run_ends_in_a_pack_that_inverts(archive: Path, tmp_path: Path) -> None:
    trainer(archive, tmp_path / "run").run()
    pack = assemble(tmp_path / "run", name="discs", version="1", description="", licence="CC0-1.0", provenance="drawn",
                    until_px=8)  # fmt: skip
    pack, losses = calibrate(pack, load_pictures(archive, held_out=8)[1], pictures=2, num_steps=10)
    write(pack, tmp_path / "discs", extra_files={"README.md": b"a card"})
    loaded = load_pack(tmp_path / "discs")
    assert loaded.manifest.optimizers.keys() == CLASSIC.keys() - {"lbfgs"}
    assert loaded.manifest.optimizers["adam"].keys() == {"encoder", "random"}
    for name in loaded.manifest.optimizers:
        for start in ("encoder", "random") if name == "adam" else ("encoder",):
            tried = {t: loss for t, loss in losses.items() if t.startswith(f"{name} ") and f", {start} start," in t}
            rate = loaded.settings(name, start)["learning_rate"]
            assert f"{name} learning_rate {rate:g}" in min(tried, key=lambda trial: tried[trial])
    target = load_pictures(archive, held_out=8)[1].take(torch.arange(2))
    share = loaded.perceptual_weight * (
        (loaded.features(loaded.synthesize(loaded.encode(target))) - loaded.features(target)).square().mean()
    )
    pixel = (loaded.synthesize(loaded.encode(target)) - target).square().mean()
    assert float(share / pixel) == pytest.approx(1 / 3, rel=0.05)  # half precision moves it a little
    first, *_, last = invert(loaded, target, InvertConfig(num_steps=20))
    assert (last.loss_B < first.loss_B).all()


@pytest.mark.parametrize(
    ("losses", "best", "runs"),
    [
        ({0: 3, 1: 2, 2: 1, 3: 2}, 2, 4),
        ({-3: 9, -2: 1, -1: 2, 0: 3, 1: 4}, -2, 5),
        ({-1: 2, 0: 1, 1: 2}, 0, 3),
        ({-3: 7, -2: 6, -1: 8, 0: 8, 1: 8}, -2, 5),  # everything above diverges: down it goes
        (dict.fromkeys(range(-9, 9), math.inf), -6, 8),  # and it ends
    ],
)
def test_the_search_ends_where_both_neighbours_are_worse(losses: dict[int, float], best: int, runs: int) -> None:
    tried = []
    assert lowest_by_steps(lambda number: tried.append(number) or losses[number]) == (best, losses[best])  # type: ignore[func-returns-value]
    assert len(tried) == len(set(tried)) == runs


def test_export_without_a_run_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(PackInvalid, match="inversion train generator"):
        assemble(tmp_path, name="a", version="1", description="", licence="", provenance="")


def test_the_commands_lead_from_pictures_to_a_pack(archive: Path, tmp_path: Path) -> None:
    data, run, pack = tmp_path / "d.npz", tmp_path / "run", tmp_path / "pack"
    assert main(["train", "data", str(archive.parent), "--size", "16", "--out", str(data)]) == 0
    common = ["--held-out", "8", "--batch", "4", "--device", "cpu"]
    small = ["--w-dim", "16", "--width", "0.1", "--reconstruction-steps", "3", "--adversarial-steps", "2"]
    assert main(["train", "generator", str(data), "--out", str(run), *common, *small]) == 0
    assert main(["train", "generator", str(data), "--out", str(run), *common, *small]) == 0  # done already: goes on
    export = ["--name", "discs", "--licence", "CC0-1.0", "--provenance", "drawn", "--held-out", "8", "--until-px", "8",
              "--calibration-steps", "5"]  # fmt: skip
    assert main(["train", "export", str(run), str(data), "--out", str(pack), *export]) == 0
    encoder = ["--pack", str(pack), "--steps", "2", "--channels-base", "4", "--channels-max", "8", *common]
    assert main(["train", "encoder", str(data), "--out", str(tmp_path / "encoder"), *encoder]) == 0
    assert (
        main(["train", "encoder", str(data), "--out", str(tmp_path / "judged"), *encoder, "--discriminator", str(run)])
        == 0
    )
    before = verify_pack(pack)
    assert main(["pack", "use-encoder", str(pack), str(tmp_path / "judged")]) == 0
    after = verify_pack(pack)
    assert after.encoder is not None
    assert (after.encoder.channels_base, after.encoder.channels_max) == (4, 8)
    changed = {name for name, digest in before.files.items() if after.files[name] != digest}
    assert changed == {"encoder.safetensors"}


def test_the_same_commands_make_the_same_pack(archive: Path, tmp_path: Path) -> None:
    """Also where one of the runs is stopped and goes on; what a pack records of itself agrees too."""
    small = ["--w-dim", "16", "--width", "0.1", "--reconstruction-steps", "6", "--adversarial-steps", "4", "--batch", "4",
             "--set", "mapping_fit_steps=20", "--held-out", "8", "--device", "cpu", "--precision", "float32"]  # fmt: skip
    export = ["--name", "discs", "--licence", "CC0-1.0", "--provenance", "drawn", "--held-out", "8", "--until-px", "8",
              "--calibration-steps", "3"]  # fmt: skip
    for name, stops in (("first", []), ("second", [["--minutes", "0"], ["--until", "5"]])):
        for stop in [*stops, []]:
            assert (
                main(["train", "generator", str(archive), "--out", str(tmp_path / f"run-{name}"), *small, *stop]) == 0
            )
        assert (
            main(
                ["train", "export", str(tmp_path / f"run-{name}"), str(archive), "--out", str(tmp_path / name), *export]
            )
            == 0
        )
    first, second = (load_pack(tmp_path / name) for name in ("first", "second"))
    assert second.perceptual_weight == pytest.approx(first.perceptual_weight, rel=0.01)
    z_BZ = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
    image_BCHW = first.synthesize(first.map(z_BZ))
    torch.testing.assert_close(second.synthesize(second.map(z_BZ)), image_BCHW, rtol=0, atol=0.01)
    torch.testing.assert_close(second.encode(image_BCHW), first.encode(image_BCHW), rtol=0, atol=0.01)


@pytest.mark.parametrize("kind", ["no run", "a generator run", "an encoder run for another pack"])
def test_an_encoder_of_elsewhere_is_refused(
    archive: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save_networks(tmp_path / "pack", tiny_pack())
    if kind == "a generator run":
        trainer(archive, tmp_path / "run").save()
    elif kind != "no run":
        save_networks(tmp_path / "other", tiny_pack(seed=1))
        data = load_pictures(archive, held_out=8)
        config = EncoderTraining(encoder=ENCODER)
        EncoderTrainer(config, load_pack(tmp_path / "other"), *data, RunFolder(tmp_path / "run")).save()
    assert main(["pack", "use-encoder", str(tmp_path / "pack"), str(tmp_path / "run")]) == 2
    says = "another generator" if kind.startswith("an encoder") else "inversion train encoder"
    assert says in capsys.readouterr().err


def test_one_command_states_a_whole_recipe(archive: Path, tmp_path: Path) -> None:
    recipe = ["--w-dim", "16", "--width", "0.1", "--reconstruction-steps", "0", "--adversarial-steps", "2", "--batch", "2",
              "--adversarial-batch", "4", "--adversarial-weight", "1", "--augment", "0.25", "--precision", "float32",
              "--set", "r1_gamma=0.5", "--set", "ema_images=100", "--set", "discriminator_rate=none"]  # fmt: skip
    common = ["--held-out", "8", "--device", "cpu", "--threads", str(torch.get_num_threads())]
    assert main(["train", "generator", str(archive), "--out", str(tmp_path), *common, *recipe]) == 0
    _, facts = read_checkpoint(tmp_path / CHECKPOINT)
    assert facts is not None
    expected = {"adversarial_batch_size": 4, "adversarial_weight": 1.0, "augment_probability": 0.25, "r1_gamma": 0.5,
                "augment_target": None, "ema_images": 100, "precision": "float32", "discriminator_rate": None}  # fmt: skip
    assert expected.items() <= facts["config"].items()


def test_random_faces_are_compared_with_real_ones(archive: Path, tmp_path: Path) -> None:
    pack = tiny_pack()
    torch.manual_seed(0)
    lpips, (training, held_out) = LPIPSSqueeze().eval(), load_pictures(archive, held_out=8)
    # A picture of 16 px is too small for SqueezeNet's poolings as they are: double it twice.
    lpips.embed = lambda image: LPIPSSqueeze.embed(lpips, torch.nn.functional.interpolate(image, scale_factor=4))  # type: ignore[method-assign]
    config = SamplesConfig(count=12, psis=(1.0, 0.5))
    embeds = {**embedders(lpips, None), "identity": lambda image: image.mean(dim=(2, 3))}
    table = measure_samples(tmp_path, pack, training, held_out, embeds, config)
    rows = json.loads((tmp_path / "samples.json").read_text())["rows"]
    assert list(rows) == ["training, two halves", "training, held_out", "psi 1, held_out", "psi 1, training",
                          "psi 0.5, held_out", "psi 0.5, training"]  # fmt: skip
    assert rows["psi 1, training"]["kid_squeeze"] > rows["training, two halves"]["kid_squeeze"]
    assert rows["psi 1, training"]["kid_identity"] != rows["psi 1, training"]["kid_squeeze"]
    assert len(table.splitlines()) == 6
    assert all("kid_squeeze " in line and "fid_identity " in line for line in table.splitlines())
    with Image.open(tmp_path / "samples.png") as sheet:
        assert sheet.width == sheet.height
    with pytest.raises(ValueError, match="at least 4"):
        SamplesConfig(count=3)


@pytest.mark.parametrize("wrong", ["r1_gama=1", "r1_gamma", "r1_gamma=much", "r1_every=0", "generator=3"])
def test_a_wrong_setting_is_refused_by_name(
    archive: Path, tmp_path: Path, wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(archive), "--out", str(tmp_path), "--held-out", "8", "--precision", "float32", "--set", wrong]
    assert main(["train", "generator", *arguments]) == 2
    assert wrong.partition("=")[0] in capsys.readouterr().err


def test_the_log_names_its_columns(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.log({"step": 1, "loss": 0.5})
    folder.log({"step": 2, "loss": 0.25})
    with (tmp_path / "log.csv").open(newline="") as lines:
        assert [row["loss"] for row in csv.DictReader(lines)] == ["0.5", "0.25"]


def rows_of(log: Path) -> list[dict[str, str]]:
    with log.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert all(None not in row and None not in row.values() for row in rows)  # as wide as the header
    return rows


def test_a_log_stays_a_table_when_columns_come_in(tmp_path: Path) -> None:
    first = RunFolder(tmp_path)
    first.log({"step": 1, "loss": 0.5})
    first.log({"step": 2, "loss": 0.25, "d": 0.7})
    first.log({"step": 3, "loss": 0.125})
    resumed = RunFolder(tmp_path)
    resumed.log({"step": 4, "d": 0.6, "kid": 0.1})
    rows = rows_of(tmp_path / "log.csv")
    assert list(rows[0]) == ["time", "step", "loss", "d", "kid"]
    assert [row["d"] for row in rows] == ["", "0.7", "", "0.6"]
    assert [row["loss"] for row in rows] == ["0.5", "0.25", "0.125", ""]
    assert not list(tmp_path.glob("*.part"))


def test_a_log_with_rows_wider_than_its_header_is_mended(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("time,step,loss\nthen,1,0.5\nthen,2,0.25,0.7\n")
    RunFolder(tmp_path).log({"step": 3, "loss": 0.1})
    rows = rows_of(tmp_path / "log.csv")
    assert [row["step"] for row in rows] == ["1", "2", "3"]
    assert rows[1]["unnamed_3"] == "0.7"


def test_the_rate_rises_stays_and_falls() -> None:
    factors = [rate_factor(step, 100, warmup_steps=10, final=0.2) for step in (0, 9, 40, 75, 100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[1] == factors[2] == 1.0
    assert 0.2 < factors[3] < 1.0
    assert factors[4] == pytest.approx(0.2)


def test_minibatch_stddev_tells_equal_pictures_from_different_ones() -> None:
    equal = minibatch_stddev(torch.ones(4, 2, 3, 3))[:, 2]
    different = minibatch_stddev(torch.randn(4, 2, 3, 3))[:, 2]
    assert equal.max() < 1e-3
    assert different.min() > 0.3


@pytest.mark.parametrize("batch", [2, 6, 8, 9, 12])
def test_the_groups_of_minibatch_stddev_are_interleaved(batch: int) -> None:
    x = torch.randn(batch, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    groups = max(1, batch // 4)
    for k, value in enumerate(minibatch_stddev(x)[:, 2, 0, 0]):
        group = x[[i for i in range(batch) if i % groups == k % groups]]
        assert float(value) == pytest.approx(float((group.var(dim=0, unbiased=False) + 1e-8).sqrt().mean()), rel=1e-5)


def test_the_discriminator_takes_any_batch() -> None:
    for batch in (1, 3, 8):
        assert Discriminator(DISCRIMINATOR)(torch.zeros(batch, 3, 16, 16)).shape == (batch,)


def test_lpips_is_zero_for_equal_pictures_and_a_broken_file_is_named(tmp_path: Path) -> None:
    a, b = torch.rand(2, 3, 64, 64) * 2 - 1, torch.rand(2, 3, 64, 64) * 2 - 1
    network = LPIPSSqueeze()
    for head in network.lin:
        torch.nn.init.constant_(head.weight, 0.1)
    assert network(a, a).abs().max() == 0
    assert (network(a, b) > 0).all()
    assert network.embed(a).shape == (2, 512)
    torch.testing.assert_close(network.embed(a).square().mean(dim=1), torch.ones(2))
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no")
    with pytest.raises(PackInvalid, match=r"broken\.safetensors"):
        load_lpips(broken)

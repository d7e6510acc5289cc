"""What makes an autoencoder of few faces better: changed pictures, a weighted face, and a run that keeps its own."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from inversion_core.cli import main
from inversion_core.loss import pixel_centres
from inversion_core.models.lpips import LPIPSSqueeze
from inversion_core.training import jitter as jitter_module
from inversion_core.training.data import PictureSet
from inversion_core.training.encoder import EncoderTrainer, EncoderTraining
from inversion_core.training.generator import GeneratorTrainer, GeneratorTraining
from inversion_core.training.jitter import exchange, jitter, surround, warp
from inversion_core.training.objectives import FACE_PX, face, face_map, picture_distance
from inversion_core.training.options import TrainingOptions
from inversion_core.training.recipes import RECIPES, recipe_fields
from inversion_core.training.run import CHECKPOINT, RunFolder, read_checkpoint, read_facts
from tests.tiny import DISCRIMINATOR, ENCODER, GENERATOR, tiny_pack


def pictures(count: int = 6, side: int = 16) -> Tensor:
    draw = torch.Generator().manual_seed(1)
    smooth = torch.nn.functional.interpolate(torch.rand(count, 3, 4, 4, generator=draw), size=side, mode="bilinear")
    return smooth * 2 - 1


def options(**changes: Any) -> TrainingOptions:
    return TrainingOptions(encoder=ENCODER, **changes)


def lpips() -> LPIPSSqueeze:
    torch.manual_seed(3)
    network = LPIPSSqueeze().requires_grad_(False).eval()
    for head in network.lin:
        head.weight.abs_()  # of trained ones none is negative
    return network


# -- the loss ------------------------------------------------------------------------------------------------


def test_without_the_new_weights_the_loss_is_that_of_before() -> None:
    a, b, network = pictures(2, 64), -pictures(2, 64), lpips()
    plain = 2 * (a - b).abs().mean()
    assert torch.equal(picture_distance(a, b, None, options(lpips_weight=0.5)), plain)
    assert torch.equal(picture_distance(a, b, network, options(lpips_weight=0.0)), plain)
    expected = plain + 0.5 * network(a, b).mean()
    assert torch.equal(picture_distance(a, b, network, options(lpips_weight=0.5)), expected)


@pytest.mark.parametrize("side", [4, 16, 64])
def test_the_map_has_mean_1_and_favours_the_inner_face(side: int) -> None:
    map_HW = face_map(side, 2.0)
    assert float(map_HW.mean()) == pytest.approx(1)
    assert torch.equal(map_HW, map_HW.flip(1))
    middle, corner = float(map_HW[side // 2, side // 2]), float(map_HW[0, 0])
    assert middle == pytest.approx(float(map_HW.max()), rel=0.01)
    assert corner == map_HW.min()
    assert middle / corner == pytest.approx(5, rel=0.1 if side > 4 else 0.5)  # (0.5 + 2) / 0.5
    assert map_HW[side - 1 - side // 4].sum() > map_HW[side // 4].sum()  # the chin lies lower than the crown high
    torch.testing.assert_close(face_map(side, 0.0), torch.ones(side, side))


def test_a_wrong_pixel_in_the_face_costs_more_than_one_beside_it() -> None:
    target = torch.zeros(1, 3, 16, 16)
    in_face, beside = target.clone(), target.clone()
    in_face[..., 8, 8], beside[..., 1, 1] = 1.0, 1.0
    flat, weighted = options(), options(face_weight=2.0)
    assert picture_distance(in_face, target, None, flat) == picture_distance(beside, target, None, flat)
    ratio = picture_distance(in_face, target, None, weighted) / picture_distance(beside, target, None, weighted)
    assert float(ratio) == pytest.approx(5, rel=0.02)


@pytest.mark.parametrize("side", [16, 64, 256])
def test_the_face_is_cut_out_at_any_size(side: int) -> None:
    rows = torch.linspace(-1, 1, side)[:, None].expand(1, 3, side, side)
    crop = face(rows)
    assert crop.shape == (1, 3, FACE_PX, FACE_PX)
    assert float(crop.mean()) == pytest.approx(2 * 36 / 64 - 1, abs=0.03)  # rows 17 to 55 of 64: the middle is 36


def test_lpips_of_the_face_feels_the_face_alone() -> None:
    a, network = pictures(2), lpips()
    settings = options(lpips_weight=0.0, face_lpips_weight=0.5)
    other = a.clone()
    other[..., :3], other[..., :3, :] = 1.0, -1.0
    plain = 2 * (a - other).abs().mean()
    assert torch.equal(picture_distance(other, a, network, settings), plain)
    other[..., 6:9, 6:9] = 1.0
    plain = 2 * (a - other).abs().mean()
    felt = picture_distance(other, a, network, settings) - plain
    assert float(felt) == pytest.approx(0.5 * float(network(face(other), face(a)).mean()), rel=1e-3)
    assert felt > 0
    assert torch.equal(picture_distance(other, a, None, settings), plain)


def test_every_part_of_the_loss_gives_a_gradient() -> None:
    image = pictures(2).requires_grad_()
    settings = options(lpips_weight=0.0, face_lpips_weight=0.5, face_weight=2.0)
    (gradient,) = torch.autograd.grad(picture_distance(image, -pictures(2), lpips(), settings), image)
    assert torch.isfinite(gradient).all()
    assert (gradient != 0).float().mean() > 0.99


@pytest.mark.parametrize("wrong", [{"face_weight": -1}, {"face_lpips_weight": -0.1}, {"jitter_probability": 1.5},
                                   {"surround_probability": -0.1}, {"warp_probability": 2}, {"exchange_probability": 1.1}])  # fmt: skip
def test_a_value_out_of_range_is_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        options(**wrong)


# -- changed pictures ----------------------------------------------------------------------------------------


def test_jitter_of_probability_0_is_nothing_and_draws_nothing() -> None:
    image, state = pictures(), torch.random.get_rng_state()
    assert jitter(image, 0.0) is image
    assert torch.equal(torch.random.get_rng_state(), state)


def test_jitter_changes_a_picture_a_little_and_by_the_seed() -> None:
    image = pictures(64)
    torch.manual_seed(2)
    changed = jitter(image, 1.0)
    assert changed.shape == image.shape
    assert changed.abs().max() <= 1
    distance_B = (changed - image).abs().mean(dim=(1, 2, 3))
    assert distance_B.min() > 0.005
    assert distance_B.max() < 0.25
    assert not torch.allclose(jitter(image, 1.0), changed)
    torch.manual_seed(2)
    assert torch.equal(jitter(image, 1.0), changed)


def test_jitter_leaves_a_share_of_the_pictures_alone() -> None:
    """One minus the probability for each of place and light: a quarter keep both at a half."""
    torch.manual_seed(0)
    image = pictures(1).expand(2000, -1, -1, -1)
    same_B = (jitter(image, 0.5) - image).abs().amax(dim=(1, 2, 3)) < 1e-4
    assert float(same_B.float().mean()) == pytest.approx(0.25, abs=0.03)


def test_jitter_stays_within_its_bounds() -> None:
    torch.manual_seed(0)
    map_B23 = jitter_module._similarity(4000, 1.0, torch.device("cpu"))
    scale_B = torch.linalg.det(map_B23[:, :, :2]).sqrt()
    assert (float(scale_B.min()), float(scale_B.max())) == pytest.approx((0.92, 1.08), abs=0.002)
    angle_B = torch.atan2(map_B23[:, 1, 0], map_B23[:, 0, 0])
    assert (float(angle_B.min()), float(angle_B.max())) == pytest.approx((-0.1, 0.1), abs=0.002)
    assert float(map_B23[:, :, 2].abs().max()) == pytest.approx(0.06, abs=0.002)  # 3 % of a side that is 2 long
    contrast_B3, brightness_B3 = jitter_module._light(4000, 1.0, torch.device("cpu"))
    assert float(contrast_B3.abs().max()) == pytest.approx(0.15, abs=0.002)
    assert float(brightness_B3.abs().max()) == pytest.approx(0.075, abs=0.002)
    is_grey_B = (contrast_B3.amax(1) == contrast_B3.amin(1)) & (brightness_B3.amax(1) == brightness_B3.amin(1))
    assert float(is_grey_B.float().mean()) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("change", [exchange, surround, warp])
def test_a_change_of_probability_0_is_nothing_and_draws_nothing(change: Any) -> None:
    image, state = pictures(), torch.random.get_rng_state()
    assert change(image, 0.0) is image
    assert torch.equal(torch.random.get_rng_state(), state)


def test_warp_moves_points_smoothly_and_not_far() -> None:
    """On a picture of its own coordinates the change is the way that each point has come."""
    torch.manual_seed(0)
    at = pixel_centres(32)
    place_CHW = torch.stack([at.expand(32, 32), at[:, None].expand(32, 32), torch.zeros(32, 32)])
    moved_BCHW = warp(place_CHW.expand(400, 3, 32, 32), 1.0) - place_CHW
    inner_BCHW = moved_BCHW[:, :2, 4:-4, 4:-4]
    assert 0.08 < float(inner_BCHW.abs().max()) < 0.15
    assert 0.02 < float(inner_BCHW.abs().mean()) < 0.05
    steps_BCHW = inner_BCHW.diff(dim=3).abs()
    assert float(steps_BCHW.max()) < 2 / 32  # what lies to the left stays there: no face is torn or folded
    mirrored_BCHW = inner_BCHW.flip(3) * torch.tensor([-1.0, 1.0])[:, None, None]
    is_even_B = (mirrored_BCHW - inner_BCHW).abs().amax(dim=(1, 2, 3)) < 1e-4
    assert float(is_even_B.float().mean()) == pytest.approx(0.5, abs=0.08)


def test_warp_bends_its_share_of_the_pictures() -> None:
    torch.manual_seed(0)
    image = pictures(1).expand(1000, -1, -1, -1)
    is_bent_B = (warp(image, 0.3) - image).abs().amax(dim=(1, 2, 3)) > 1e-3
    assert float(is_bent_B.float().mean()) == pytest.approx(0.3, abs=0.05)


def test_exchange_takes_parts_of_others_and_leaves_light_and_hair() -> None:
    """Of two faces, each dark or bright and with a pattern of its own, the patterns change places."""
    torch.manual_seed(0)
    at = pixel_centres(64)
    stripes_HW, bars_HW = (0.3 * torch.sin(40 * axis).expand(64, 64) for axis in (at[:, None], at))
    face_BHW = torch.stack([stripes_HW - 0.4, bars_HW + 0.4])
    image_BCHW = face_BHW[:, None].expand(2, 3, 64, 64).repeat(200, 1, 1, 1)
    changed_BCHW = exchange(image_BCHW, 1.0)
    assert changed_BCHW.abs().max() <= 1
    assert float((changed_BCHW - image_BCHW)[:, :, :8].abs().max()) < 0.02  # the hair
    eyes_BHW = changed_BCHW[::2, 0, 26:32, 22:42]  # of the first
    down_B, across_B = (eyes_BHW.std(dim=dim).mean(dim=1) for dim in (1, 2))
    is_other_B = across_B > down_B
    # Another's: by the inner face or the eyes, .675 in all; of those half have the other pattern, as many of the first.
    assert float(is_other_B.float().mean()) == pytest.approx(0.34, abs=0.1)
    assert float((eyes_BHW.mean(dim=(1, 2)) + 0.4).abs().max()) < 0.1  # still dark


def test_exchange_changes_its_share_of_the_pictures_and_one_alone_only_by_its_mirror_image() -> None:
    torch.manual_seed(0)
    image = pictures(1000, 16)
    is_changed_B = (exchange(image, 0.5) - image).abs().amax(dim=(1, 2, 3)) > 1e-3
    none_taken = 0.5 * 0.65**3
    assert float(is_changed_B.float().mean()) == pytest.approx(0.5 * (1 - none_taken), abs=0.05)
    even = pictures(1, 16)
    even = (even + even.flip(3)) / 2
    torch.testing.assert_close(exchange(even, 1.0), even.clamp(-1, 1))


def test_surround_keeps_the_face_and_changes_what_is_behind_it() -> None:
    torch.manual_seed(0)
    image = pictures(64, 64)
    changed = surround(image, 1.0)
    distance_BHW = (changed - image).abs().amax(dim=1)
    face_BHW, corners_BHW = distance_BHW[:, 20:46, 24:40], distance_BHW[:, ::63, ::63]
    assert changed.abs().max() <= 1
    assert float(face_BHW.mean()) < 0.02  # brows to chin, eye to eye
    assert float(corners_BHW.mean()) > 0.3


def test_surround_changes_its_share_of_the_pictures_and_most_get_a_wall() -> None:
    torch.manual_seed(0)
    image = torch.rand(1000, 3, 16, 16) * 2 - 1
    changed = surround(image, 0.4)
    is_changed_B = (changed - image).abs().amax(dim=(1, 2, 3)) > 1e-3
    assert float(is_changed_B.float().mean()) == pytest.approx(0.4, abs=0.05)
    # Beside a wall two neighbours are alike; behind another picture they are noise.
    corner_BC = (changed[is_changed_B, :, 0, 0] - changed[is_changed_B, :, 0, 1]).abs()
    assert float((corner_BC.amax(dim=1) < 0.15).float().mean()) == pytest.approx(0.7, abs=0.08)


# -- the trainers --------------------------------------------------------------------------------------------


def picture_set() -> PictureSet:
    pixels = ((pictures(12) + 1) * 127.5).to(torch.uint8)
    return PictureSet(pictures_NCHW=pixels, weight_N=torch.ones(12), names=("",) * 12)


def generator_trainer(run: Path, network: LPIPSSqueeze | None = None, **changes: Any) -> GeneratorTrainer:
    config = GeneratorTraining(
        generator=GENERATOR, encoder=ENCODER, discriminator=DISCRIMINATOR, warmup_steps=0, reconstruction_steps=2,
        adversarial_steps=2, mapping_fit_steps=2, **changes,
    )  # fmt: skip
    return GeneratorTrainer(config, picture_set(), picture_set(), RunFolder(run), lpips=network)


def encoder_trainer(run: Path, network: LPIPSSqueeze | None = None, **changes: Any) -> EncoderTrainer:
    config = EncoderTraining(encoder=ENCODER, discriminator=DISCRIMINATOR, warmup_steps=0, steps=4, **changes)
    return EncoderTrainer(config, tiny_pack(), picture_set(), picture_set(), RunFolder(run), lpips=network)


WHOLE = {"lpips_weight": 0.0, "face_lpips_weight": 0.5, "face_weight": 2.0, "jitter_probability": 1.0,
         "surround_probability": 0.5, "warp_probability": 0.5, "exchange_probability": 0.5}  # fmt: skip
"""Less LPIPS of the whole picture, for which 16 px are too few."""


@pytest.mark.parametrize("make", [generator_trainer, encoder_trainer], ids=["generator", "encoder"])
def test_encoder_and_loss_see_the_changed_picture_and_d_the_real_one(make: Any, tmp_path: Path) -> None:
    trainer = make(tmp_path, lpips(), **WHOLE)
    trainer.step = 2  # the generator's second phase begins, so both have a discriminator at work
    real = trainer.pictures.batch(2, 4, 0)
    seen: dict[str, Tensor] = {}
    encode, judge = trainer._codes, trainer.adversary.train_step

    def codes(*args: Any, **settings: Any) -> Tensor:
        seen.setdefault("encoder", next(each for each in args if isinstance(each, Tensor))[:4])
        return encode(*args, **settings)

    def judged(real_BCHW: Tensor, *fakes: Tensor, **settings: Any) -> dict[str, Tensor]:
        seen["d"] = real_BCHW
        return judge(real_BCHW, *fakes, **settings)

    trainer._codes, trainer.adversary.train_step = codes, judged
    trainer._start_adversarial = lambda: None
    losses = trainer.train_step(real)
    torch.manual_seed(trainer.config.seed * 7_919 + trainer.step)
    assert torch.equal(seen["encoder"], jitter(surround(warp(exchange(real, 0.5), 0.5), 0.5), 1.0))
    assert torch.equal(seen["d"], real)
    assert all(torch.isfinite(value) for value in losses.values())


@pytest.mark.parametrize("make", [generator_trainer, encoder_trainer], ids=["generator", "encoder"])
def test_a_step_moves_the_encoder_and_depends_on_its_seed_alone(make: Any, tmp_path: Path) -> None:
    first, second = (make(tmp_path / name, lpips(), **WHOLE) for name in "ab")
    before = [p.clone() for p in first.e.parameters()]
    batch = first.pictures.batch(0, 4, 0)
    losses = first.train_step(batch)
    torch.rand(5)
    assert losses == second.train_step(batch)
    assert any(not torch.equal(old, new) for old, new in zip(before, first.e.parameters(), strict=True))


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.2, 0.8), (0.5, 0.5), (1.0, 0.0)])
def test_a_share_of_the_pictures_goes_through_w_alone(tmp_path: Path, share: float, expected: float) -> None:
    trainer = generator_trainer(tmp_path, w_share=share, code_noise=0.0)
    torch.manual_seed(0)
    with torch.no_grad():
        code_BLD, _ = trainer._encode(pictures(1).expand(400, -1, -1, -1))
    uses_layers_B = (code_BLD - code_BLD[:, :1]).abs().amax(dim=(1, 2)) > 0
    assert float(uses_layers_B.float().mean()) == pytest.approx(expected, abs=0.06)


def test_a_share_out_of_range_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="w_share"):
        generator_trainer(tmp_path, w_share=1.1)


# -- which recipe a run has ------------------------------------------------------------------------------------


def begun(run: Path, config: dict[str, Any]) -> Path:
    save_file({"x": torch.zeros(1)}, run / CHECKPOINT, {"facts": json.dumps({"step": 1, "config": config})})
    return run


def test_a_new_run_takes_the_recipe_for_faces_unless_told(tmp_path: Path) -> None:
    assert recipe_fields(GeneratorTraining, None, tmp_path) == RECIPES["faces"]
    assert "w_share" not in recipe_fields(EncoderTraining, None, tmp_path)
    plain = recipe_fields(GeneratorTraining, "plain", tmp_path)
    assert plain == {
        "lpips_weight": 0.5, "face_lpips_weight": 0.0, "face_weight": 0.0, "jitter_probability": 0.0, "w_share": 0.5,
        "identity_weight": 0.0, "identity_every": 1, "encoder_clip": 0.0,
    }  # fmt: skip


def test_a_run_that_goes_on_keeps_its_own(tmp_path: Path) -> None:
    """Of an earlier version: the defaults for what it does not know. Of this one: what its checkpoint says."""
    plain = recipe_fields(GeneratorTraining, "plain", tmp_path)
    assert recipe_fields(GeneratorTraining, None, begun(tmp_path, {"lpips_weight": 0.4})) == {
        **plain, "lpips_weight": 0.4
    }  # fmt: skip
    config = generator_trainer(tmp_path / "new", w_share=0.1, face_weight=3.0).config
    kept = recipe_fields(GeneratorTraining, None, begun(tmp_path, dataclasses.asdict(config)))
    assert kept == {**plain, "w_share": 0.1, "face_weight": 3.0}
    assert recipe_fields(GeneratorTraining, "faces", tmp_path) == RECIPES["faces"]


def test_the_command_does_not_change_the_loss_of_a_run_that_it_goes_on_with(tmp_path: Path) -> None:
    data, run = tmp_path / "data.npz", tmp_path / "run"
    pixels = picture_set().pictures_NCHW.permute(0, 2, 3, 1).numpy()
    np.savez(data, pictures_NHWC=pixels, names=np.array([""] * 12), group_N=np.arange(12))
    command = ["train", "generator", str(data), "--out", str(run), "--held-out", "2", "--w-dim", "8", "--width", "0.1",
               "--reconstruction-steps", "3", "--adversarial-steps", "0", "--batch", "2", "--device", "cpu",
               "--precision", "float32", "--until"]  # fmt: skip

    def recipe_after(step: int, *options: str) -> dict[str, Any]:
        assert main([*command, str(step), *options]) == 0
        facts = read_facts(run / CHECKPOINT)
        assert facts is not None
        assert facts["step"] == step
        return {name: facts["config"][name] for name in RECIPES["faces"]}

    assert recipe_after(1, "--set", "face_weight=1.5") == {**RECIPES["faces"], "face_weight": 1.5}
    assert recipe_after(2) == {**RECIPES["faces"], "face_weight": 1.5}
    tensors, facts = read_checkpoint(run / CHECKPOINT)
    assert facts is not None
    for name in RECIPES["faces"].keys() - {"lpips_weight"}:  # as an earlier version wrote it
        del facts["config"][name]
    save_file(tensors, run / CHECKPOINT, {"facts": json.dumps(facts)})
    assert recipe_after(3) == {**recipe_fields(GeneratorTraining, "plain", run), "lpips_weight": 0.3}

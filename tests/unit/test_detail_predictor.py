"""The network that begins detail: it learns, it resumes to the step, and it ends in a pack."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from inversion_core.cli import main
from inversion_core.detail import begin_detail
from inversion_core.errors import OptionInvalid, PackInvalid
from inversion_core.inverter import InvertConfig, invert
from inversion_core.latents import base_features
from inversion_core.models import DetailPredictor, DetailPredictorConfig
from inversion_core.models.serving import serving
from inversion_core.packs import DetailSpec, load_pack, put_detail, read_manifest, verify_pack
from inversion_core.training.detail import DetailTrainer, DetailTraining
from inversion_core.training.run import CHECKPOINT, LOG, RunFolder, read_checkpoint
from tests.tiny import noise_archive, noise_pictures, rough_pack, save_networks, tiny_pack

pytestmark = pytest.mark.unit

SMALL = DetailPredictorConfig(width=6, inner_width=8)


def predictor(*, trained: bool = True) -> DetailPredictor:
    torch.manual_seed(0)
    network = DetailPredictor(SMALL, resolution=16, px=8, channels=12)
    if trained:
        torch.nn.init.normal_(network.head.weight, std=0.1)
    return network.requires_grad_(False)


def inputs(batch: int) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    pictures = torch.rand(2, batch, 3, 16, 16, generator=draw) * 2 - 1
    return pictures[0], pictures[1], torch.randn(batch, 12, 8, 8, generator=draw)


def trainer(run: Path, **changes: Any) -> DetailTrainer:
    options = {"predictor": SMALL, "px": 8, "steps": 12, "batch_size": 4, "edits": 2, "warmup_steps": 1,
               "later_steps": 2, **changes}  # fmt: skip
    pictures = noise_pictures(16)
    return DetailTrainer(DetailTraining(**options), rough_pack(), pictures, pictures, RunFolder(run))


# -- the network -----------------------------------------------------------------------------------------------


def test_a_new_one_begins_with_nothing() -> None:
    detail_BCHW = predictor(trained=False)(*inputs(2))
    assert detail_BCHW.shape == (2, 12, 8, 8)
    assert not detail_BCHW.any()


def test_an_image_has_the_same_detail_whoever_is_beside_it() -> None:
    network, given = predictor(), inputs(3)
    with torch.no_grad(), serving():
        together_BCHW = network(*given)
        alone_BCHW = torch.cat([network(*rows) for rows in zip(*(each.split(1) for each in given), strict=True)])
    assert torch.equal(together_BCHW, alone_BCHW)


@given(width=st.integers(-3, 2_000), inner_width=st.integers(-3, 2_000))
@settings(deadline=None, max_examples=30)
def test_widths_out_of_range_are_refused_by_name(width: int, inner_width: int) -> None:
    wrong = [name for name, value in (("width", width), ("inner_width", inner_width)) if not 1 <= value <= 1024]
    if not wrong:
        DetailPredictorConfig(width=width, inner_width=inner_width)
        return
    with pytest.raises(ValueError, match=f"^{wrong[0]} is"):
        DetailPredictorConfig(width=width, inner_width=inner_width)


# -- training --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_pictures_come_nearer_to_the_photos(tmp_path: Path, precision: str) -> None:
    learner = trainer(tmp_path, steps=120, rate=1e-2, precision=precision, later_share=0.0, ema_images=40)
    assert learner.measure()["held_out_mse"] == pytest.approx(learner.measure()["held_out_mse_without"], rel=1e-4)
    learner.run()
    after = learner.measure()
    assert after["held_out_mse"] < 0.9 * after["held_out_mse_without"]
    with (tmp_path / LOG).open() as lines:
        assert {"pixels", "features", "edited_pixels", "edited_features"} <= set(next(csv.DictReader(lines)))


def test_a_resumed_run_equals_an_unbroken_one(tmp_path: Path) -> None:
    trainer(tmp_path / "whole", later_share=0.5).run()
    for until in (5, 12):
        trainer(tmp_path / "parts", later_share=0.5).run(until=until)
    (whole, _), (parts, facts) = (read_checkpoint(tmp_path / name / CHECKPOINT) for name in ("whole", "parts"))
    assert facts is not None
    assert facts["step"] == 12
    assert whole.keys() == parts.keys()
    for key, value in whole.items():
        assert torch.equal(parts[key], value), key


def test_without_detail_an_edit_loses_nothing(tmp_path: Path) -> None:
    learner = trainer(tmp_path)
    target_BCHW = learner.pictures.take(torch.arange(4))
    with torch.no_grad():
        losses = learner._losses(target_BCHW, learner._codes(target_BCHW))
    assert float(losses["edited_pixels"]) == pytest.approx(0, abs=1e-6)
    assert float(losses["edited_features"]) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"px": 0}, "px is 0"), ({"edits": 9}, "edits is 9"), ({"later_share": 1.5}, "later_share is 1.5"),
     ({"rate": -1.0}, "rate is -1.0"), ({"px": 32}, "32")],
)  # fmt: skip
def test_a_value_out_of_range_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        trainer(tmp_path, **changes)


# -- the pack --------------------------------------------------------------------------------------------------


def test_the_commands_lead_from_pictures_to_a_pack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = noise_archive(tmp_path, np.random.default_rng(0))
    folder, run, out = tmp_path / "pack", tmp_path / "run", tmp_path / "out"
    save_networks(folder, tiny_pack())
    train = ["train", "detail", str(data), "--pack", str(folder), "--out", str(run), "--steps", "2", "--batch", "3",
             "--width", "6", "--inner-width", "8", "--held-out", "4", "--threads", "1", "--set", "edits=1"]  # fmt: skip
    assert main(train) == 0
    assert main(["pack", "use-detail", str(folder), str(run), "--out", str(out)]) == 0
    assert "detail" not in json.loads((folder / "pack.json").read_text())
    verify_pack(out)
    pack = load_pack(out)
    assert pack.detail == DetailSpec(px=8, predictor=SMALL)
    assert pack.detail_predictor is not None
    weights, _ = read_checkpoint(run / CHECKPOINT)
    assert torch.equal(pack.detail_predictor.stem.weight, weights["p_ema/stem.weight"])
    base_BCHW = base_features(pack.generator, pack.mean_codes(2), 8)
    assert pack.detail_predictor(*inputs(2)[:2], base_BCHW).isfinite().all()
    capsys.readouterr()
    assert main(["pack", "use-detail", str(folder), str(tmp_path)]) != 0
    assert "holds no run of detail" in capsys.readouterr().err


def test_another_generators_run_is_refused(tmp_path: Path) -> None:
    from inversion_core.training.detail_run import put_predictor

    for seed, name in enumerate(("one", "other")):
        save_networks(tmp_path / name, tiny_pack(seed=seed))
    pictures = noise_pictures(16)
    options = DetailTraining(predictor=SMALL, px=8, steps=1, batch_size=2, edits=1)
    run = tmp_path / "run"
    DetailTrainer(options, load_pack(tmp_path / "one"), pictures, pictures, RunFolder(run)).run()
    with pytest.raises(OptionInvalid, match="another generator"):
        put_predictor(run, tmp_path / "other")


def test_steps_and_rates_change_and_the_network_stays(tmp_path: Path) -> None:
    folder = tmp_path / "pack"
    save_networks(folder, tiny_pack())
    spec = DetailSpec(px=8, predictor=SMALL)
    with pytest.raises(PackInvalid, match="needs its weights"):
        put_detail(folder, spec)
    put_detail(folder, spec, predictor())
    changed = DetailSpec(px=8, after=3, steps=7, predictor=SMALL)
    put_detail(folder, changed)
    pack = load_pack(folder)
    assert pack.detail == changed
    assert pack.changed(focus=2.0).detail_predictor is pack.detail_predictor
    put_detail(folder, DetailSpec(px=8))
    assert load_pack(folder).detail_predictor is None
    assert not (folder / "detail.safetensors").exists()
    assert "predictor" not in json.loads((folder / "pack.json").read_text())["detail"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        lambda inner: st.dictionaries(st.sampled_from(["width", "inner_width", "x"]), inner, max_size=3),
    )
)
@settings(deadline=None, max_examples=60)
def test_no_predictor_in_a_pack_json_is_believed_unread(tmp_path_factory: pytest.TempPathFactory, found: Any) -> None:
    folder = tmp_path_factory.mktemp("packs") / "pack"
    save_networks(folder, tiny_pack())
    put_detail(folder, DetailSpec(px=8, predictor=SMALL), predictor())
    file = folder / "pack.json"
    told = json.loads(file.read_text())
    told["detail"]["predictor"] = found
    file.write_text(json.dumps(told))
    try:
        read = read_manifest(folder).detail
    except PackInvalid:
        return
    assert read is not None
    assert isinstance(read.predictor, DetailPredictorConfig)


def test_a_file_for_other_widths_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "pack"
    save_networks(folder, tiny_pack())
    put_detail(folder, DetailSpec(px=8, predictor=SMALL), predictor())
    file = folder / "pack.json"
    file.write_text(file.read_text().replace('"inner_width": 8', '"inner_width": 9'))
    with pytest.raises(PackInvalid, match=r"detail\.safetensors"):
        load_pack(folder)


# -- the inversion ---------------------------------------------------------------------------------------------


def test_detail_begins_with_the_network_where_it_has_the_size(tmp_path: Path) -> None:
    save_networks(tmp_path / "pack", rough_pack())
    put_detail(tmp_path / "pack", DetailSpec(px=8, predictor=SMALL), predictor())
    pack, target_BCHW = load_pack(tmp_path / "pack"), inputs(2)[0]
    *_, last = invert(pack, target_BCHW, InvertConfig(num_steps=1, detail_steps=1))
    begun = [step for step in invert(pack, target_BCHW, InvertConfig(num_steps=1, detail_steps=1)) if step.detail_from]
    base_BCHW = pack.base_features(last.w_BLD, 8)
    assert pack.detail_predictor is not None
    expected_BCHW = pack.detail_predictor(target_BCHW, pack.synthesize(last.w_BLD), base_BCHW)
    assert begun[0].latent.detail_BCHW is not None
    assert torch.allclose(begun[0].latent.detail_BCHW, expected_BCHW, atol=1e-5)
    mask_B1HW = torch.zeros(2, 1, 16, 16)
    nothing_BCHW = pack.detail_predictor(image_BCHW := pack.synthesize(last.w_BLD), image_BCHW, base_BCHW)
    masked_BCHW = begin_detail(pack, target_BCHW, last.w_BLD, base_BCHW, mask_B1HW)
    assert torch.allclose(masked_BCHW, nothing_BCHW, atol=1e-5), "what is masked away is not copied"
    assert torch.equal(
        begin_detail(pack, target_BCHW, last.w_BLD, base_BCHW, mask_B1HW + 1),
        begin_detail(pack, target_BCHW, last.w_BLD, base_BCHW),
    )
    other = next(step for step in invert(pack, target_BCHW, InvertConfig(num_steps=0, detail_steps=1, detail_px=16)))
    assert other.latent.detail_BCHW is not None
    assert not other.latent.detail_BCHW.any()


def test_the_command_changes_how_detail_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "pack"
    save_networks(folder, tiny_pack())
    put_detail(folder, DetailSpec(px=8, predictor=SMALL), predictor())
    change = ["pack", "change", str(folder), "--version", "2"]
    assert main([*change, "--detail", "after=3", "--detail", "learning_rate=0.1"]) == 0
    assert load_pack(folder).detail == DetailSpec(px=8, after=3, learning_rate=0.1, predictor=SMALL)
    for wrong, said in (("px=4", "FIELD=VALUE"), ("steps=many", "no number"), ("after=-1", "from 0 to")):
        capsys.readouterr()
        if said == "from 0 to":
            assert main([*change, "--detail", wrong]) != 0
        else:
            with pytest.raises(SystemExit):
                main([*change, "--detail", wrong])
        assert said in capsys.readouterr().err

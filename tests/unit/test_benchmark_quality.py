"""The benchmark of quality: methods, identity, and the files it writes."""

from __future__ import annotations

import csv
import json
import math
import statistics
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from inversion_core.benchmark.identity import INPUT_PX, TEMPLATE, IdentityNetwork, identity_crop, similarity
from inversion_core.benchmark.methods import method_names, run_methods
from inversion_core.benchmark.photos import Subject, find_photos
from inversion_core.benchmark.quality import Instruments, QualityConfig, measure_subjects
from inversion_core.benchmark.quality_report import spread
from inversion_core.cli import main
from inversion_core.errors import OptionInvalid, PackInvalid
from inversion_core.inverter import BestSteps, InvertConfig, invert
from inversion_core.packs.places import PATH_VARIABLE
from inversion_core.pictures import to_image
from tests.drawn_face import draw_face
from tests.tiny import rough_pack, save_networks, tiny_pack, tiny_targets

pytestmark = pytest.mark.unit


# -- methods -------------------------------------------------------------------------------------------------


def test_methods_are_the_start_and_the_best_of_the_loop() -> None:
    pack, target_BCHW, ticks = tiny_pack(), tiny_targets(2), []
    start, three, six = run_methods(pack, target_BCHW, [3, 6], keep=[2, 6], tick=lambda: ticks.append(1))
    with torch.no_grad():
        assert torch.equal(start.image_BCHW, pack.synthesize(pack.encode(target_BCHW)))
    for result, count in ((three, 3), (six, 6)):
        best = BestSteps()
        for step in invert(pack, target_BCHW, InvertConfig(num_steps=count, optimizer="adam")):
            best.update(step)
        assert torch.equal(result.image_BCHW, best.image_BCHW)
        assert torch.equal(result.step_B, torch.as_tensor(best.index_B))
        assert result.seconds > 0
    assert [sorted(result.frames) for result in (start, three, six)] == [[0], [2], [2, 6]]
    assert torch.equal(six.frames[6], six.image_BCHW)
    assert len(ticks) == 4 + 7
    assert [result.method for result in (start, three, six)] == method_names(pack, [3, 6])


def test_methods_are_each_optimizer_for_each_number() -> None:
    pack, target_BCHW = tiny_pack().changed(optimizers={"adam": {}, "sgd": {"learning_rate": 3.0}}), tiny_targets(1)
    found = list(run_methods(pack, target_BCHW, [1, 3], optimizers=["sgd", "adam"]))
    assert [result.method for result in found] == method_names(pack, [1, 3], ["sgd", "adam"])
    assert [result.method for result in found] == [found[0].method, "sgd-1", "sgd-3", "adam-1", "adam-3"]
    assert [result.optimizer for result in found] == [None, "sgd", "sgd", "adam", "adam"]
    *_, last = invert(pack, target_BCHW, InvertConfig(num_steps=1, optimizer="sgd"))
    assert torch.equal(found[1].image_BCHW, last.image_BCHW)


def test_methods_are_each_number_of_detail_after_each_of_the_code() -> None:
    pack, target_BCHW = tiny_pack(), tiny_targets(2)
    found = list(run_methods(pack, target_BCHW, [1, 3], keep=[1, 3], detail_steps=[0, 2]))
    assert [result.method for result in found[1:]] == ["adam-1", "adam-1-detail-2", "adam-3", "adam-3-detail-2"]
    assert [sorted(result.frames) for result in found[1:]] == [[1], [3], [1, 3], [5]]
    config = InvertConfig(num_steps=3, detail_steps=2, optimizer="adam")
    best = BestSteps()
    for step in invert(pack, target_BCHW, config):
        best.update(step)
    assert torch.equal(found[4].image_BCHW, best.image_BCHW)
    for wrong in ([], [-1], [2, 2]):
        with pytest.raises(OptionInvalid, match="detail steps are"):
            method_names(pack, [3], detail_steps=wrong)


@pytest.mark.parametrize(
    ("names", "message"), [([], "as in: adam learned"), (["adam"] * 2, "different"), (["none"], "none")]
)
def test_senseless_optimizers_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(OptionInvalid, match=message):
        method_names(tiny_pack(), [3], names)


def test_methods_have_the_packs_focus_or_the_one_that_is_named() -> None:
    pack, target_BCHW = tiny_pack().changed(focus=20.0), tiny_targets(1)
    own, named, off = (list(run_methods(pack, target_BCHW, [4], focus=focus))[1] for focus in (None, 20.0, 0.0))
    assert torch.equal(own.image_BCHW, named.image_BCHW)
    assert not torch.equal(own.image_BCHW, off.image_BCHW)


def test_a_pack_without_an_encoder_starts_from_the_mean() -> None:
    pack = tiny_pack(has_encoder=False)
    start, _ = run_methods(pack, tiny_targets(1), [1])
    assert start.method == "mean"
    with torch.no_grad():
        assert torch.equal(start.image_BCHW, pack.synthesize(pack.mean_codes()))


@pytest.mark.parametrize("steps", [[], [0], [5, 5], [-1, 3]])
def test_senseless_steps_are_refused(steps: list[int]) -> None:
    with pytest.raises(OptionInvalid, match="as in: 100 500"):
        method_names(tiny_pack(), steps)


# -- identity ------------------------------------------------------------------------------------------------


@given(st.floats(0.2, 5), st.floats(-3.1, 3.1), st.floats(-99, 99), st.floats(-99, 99))
@settings(max_examples=30, deadline=None)
def test_similarity_finds_the_transform(scale: float, angle: float, x: float, y: float) -> None:
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    target = TEMPLATE @ np.array([[cos, sin], [-sin, cos]]) + [x, y]
    assert similarity(TEMPLATE, target) == pytest.approx((cos, -sin, x, sin, cos, y), abs=1e-6)


def test_similarity_is_the_least_squares_solution() -> None:
    target = TEMPLATE + np.random.default_rng(0).normal(scale=5, size=(5, 2))
    a, _, c, b, _, f = similarity(TEMPLATE, target)
    rows = [row for x, y in TEMPLATE for row in ([x, -y, 1, 0], [y, x, 0, 1])]
    expected, *_ = np.linalg.lstsq(np.array(rows), target.ravel(), rcond=None)
    assert (a, b, c, f) == pytest.approx(tuple(expected))


@pytest.mark.parametrize("scale", [0.7, 3.2])
def test_the_crop_puts_the_landmarks_on_the_template(scale: float) -> None:
    turn = scale * np.array([[math.cos(0.3), math.sin(0.3)], [-math.sin(0.3), math.cos(0.3)]])
    landmarks = (TEMPLATE + 0.5 - 56) @ turn + 200
    y, x = np.mgrid[:400, :400] + 0.5
    for place, expected in zip(landmarks, TEMPLATE, strict=True):
        spot = 255 * np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / (2 * (3 * scale) ** 2))
        crop = identity_crop(Image.fromarray(spot.astype(np.uint8)).convert("RGB"), landmarks)
        assert crop.size == (INPUT_PX, INPUT_PX)
        weight = np.asarray(crop, dtype=float)[..., 0]
        rows, columns = np.mgrid[:INPUT_PX, :INPUT_PX]
        found = ((columns * weight).sum() / weight.sum(), (rows * weight).sum() / weight.sum())
        assert found == pytest.approx(tuple(expected), abs=0.15)


def _field(key: int, value: int | bytes) -> bytes:
    """One field of a protobuf message: a varint or bytes, all of them short."""
    if isinstance(value, int):
        return bytes([key << 3, value])
    return bytes([key << 3 | 2, len(value)]) + value


def flatten_network() -> bytes:
    """An ONNX model that flattens (1, 3, 112, 112): the embedding is the network's input itself."""
    dims = b"".join(_field(1, _field(1, 1) if n == 1 else b"\x08" + bytes([n])) for n in (1, 3, 112, 112))
    image = _field(1, b"image") + _field(2, _field(1, _field(1, 1) + _field(2, dims)))
    out = _field(1, b"out") + _field(2, _field(1, _field(1, 1)))
    node = _field(1, b"image") + _field(2, b"out") + _field(4, b"Flatten")
    graph = _field(1, node) + _field(2, b"g") + _field(11, image) + _field(12, out)
    return _field(1, 8) + _field(7, graph) + _field(8, _field(2, 13))


def test_the_network_is_fed_with_imagenet_s_normalisation(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "flat.onnx").write_bytes(flatten_network())
    network = IdentityNetwork(tmp_path / "flat.onnx")
    colour = (250, 128, 3)
    embedding_ND = network([Image.new("RGB", (INPUT_PX, INPUT_PX), colour)] * 2)
    assert embedding_ND.shape == (2, 3 * INPUT_PX**2)
    expected = [(c / 255 - m) / s for c, m, s in zip(colour, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)]
    found = embedding_ND[1].reshape(3, -1)[:, 7]
    assert found.tolist() == pytest.approx([e / math.hypot(*expected) / INPUT_PX for e in expected], rel=1e-5)


def test_a_broken_network_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "bad.onnx").write_bytes(struct.pack("40B", *range(40)))
    for name in ("bad.onnx", "none.onnx"):
        with pytest.raises(PackInvalid, match=name):
            IdentityNetwork(tmp_path / name)


def test_without_onnxruntime_the_remedy_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(OptionInvalid, match=r"pip install 'stylegan-inversion\[benchmark\]'"):
        IdentityNetwork(tmp_path / "any.onnx")


# -- measuring -----------------------------------------------------------------------------------------------


def colours(images: Sequence[Image.Image]) -> Tensor:
    """An embedding for tests: pixels at a few places."""
    return torch.tensor(np.stack([np.asarray(image)[20:100:16, 20:100:16].ravel() + 1.0 for image in images]))


def mean_difference(images: Sequence[Image.Image], photo: Image.Image) -> Tensor:
    """A distance for tests, in place of dlib's."""
    drawn = [np.asarray(image.resize(photo.size, Image.Resampling.BICUBIC), float) for image in images]
    return torch.tensor([float(np.abs(pixels - np.asarray(photo, float)).mean() / 255) for pixels in drawn])


def largest_difference(image_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
    return (image_BCHW - target_BCHW).abs().amax(dim=(1, 2, 3))


def subject(name: str, aligned: Image.Image, *, has_landmarks: bool = True) -> Subject:
    portrait = aligned.resize((256, 256), Image.Resampling.BICUBIC)
    landmarks = (TEMPLATE + 0.5) * 256 / 112 if has_landmarks else None
    return Subject(name=name, photo=portrait, aligned=aligned, portrait=portrait, landmarks=landmarks)


def test_a_picture_that_the_start_draws_exactly_gets_the_best_marks() -> None:
    pack = tiny_pack(has_encoder=False)
    with torch.no_grad():
        drawn = to_image(pack.synthesize(pack.mean_codes()))
    other = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    subjects = [subject("a", drawn), subject("b", drawn, has_landmarks=False), subject("c", other)]
    rows, sheet = measure_subjects(
        pack,
        subjects,
        Instruments(embed=colours, lpips=largest_difference, describe=mean_difference),
        QualityConfig(steps=(2,), batch=2, sheet_rows=2),
    )
    assert [(row.photo, row.method) for row in rows] == [
        ("a", "mean"), ("b", "mean"), ("a", "adam-2"), ("b", "adam-2"), ("c", "mean"), ("c", "adam-2"),
    ]  # fmt: skip
    a, b, c = rows[0].values, rows[1].values, rows[4].values
    assert (a["psnr_db"], a["ssim"], a["identity"]) == (math.inf, pytest.approx(1), pytest.approx(1))
    assert a["identity_photo"] == pytest.approx(1, abs=1e-3)
    assert math.isnan(b["identity"])
    assert a["lpips"] <= 1.01 / 255, "rounding to 8 bits"
    assert c["lpips"] > 0.5
    assert c["psnr_db"] < 30
    assert c["identity"] < 0.99
    assert a["descriptor"] < 0.05 < c["descriptor"]
    assert len(sheet) == 2
    assert [sorted(row.drawn) for row in sheet] == [[0, 2]] * 2


def test_spread_leaves_nan_out_and_has_no_number_for_infinity() -> None:
    assert spread([1.0, math.nan, 3.0]) == {"mean": 2.0, "std": pytest.approx(math.sqrt(2)), "n": 2}
    assert spread([5.0]) == {"mean": 5.0, "std": 0.0, "n": 1}
    assert spread([1.0, math.inf]) == {"mean": None, "std": None, "n": 2}
    assert spread([math.nan]) == {"mean": None, "std": None, "n": 0}


# -- the command ---------------------------------------------------------------------------------------------


@pytest.fixture
def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    save_networks(tmp_path / "packs" / "tiny", rough_pack())
    monkeypatch.setenv(PATH_VARIABLE, str(tmp_path / "packs"))
    return "tiny"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    draw_face().save(folder / "a.png")
    Image.new("RGB", (90, 90), (90, 90, 90)).save(folder / "b.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


def run(pack: str, photos: list[Path], out: Path, *options: str) -> int:
    words = ["benchmark", "quality", pack, *map(str, photos), "--out", str(out), "--device", "cpu", *options]
    return main(words)


def test_quality_writes_everything_and_skips_what_has_no_face(
    pack: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (tmp_path / "more").mkdir()
    draw_face().save(tmp_path / "more" / "a.png")
    assert run(pack, [photos, tmp_path / "more", photos / "a.png"], out, "--steps", "2", "4") == 0
    captured = capsys.readouterr()
    assert f"skipped {photos / 'b.png'}: No face was found" in captured.err
    assert sorted(path.name for path in out.iterdir()) == ["quality.csv", "quality.json", "quality.md", "sheet.png"]
    data = json.loads((out / "quality.json").read_text())
    assert (data["pack"], data["version"], data["photos"]) == ("tiny", "1", 2)
    assert data["skipped"] == ["b.png"]
    assert list(data["methods"]) == ["encoder", "adam-2", "adam-4"]
    assert list(data["optimizers"]) == ["adam"]
    with (out / "quality.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["photo"] for row in rows] == ["photos/a.png", "more/a.png"] * 3
    for method, measures in data["methods"].items():
        assert set(measures) == {"mse", "psnr_db", "psnr_signed_db", "ssim", "seconds"}
        for name, summary in measures.items():
            values = [float(row[name]) for row in rows if row["method"] == method]
            assert summary["mean"] == pytest.approx(statistics.fmean(values), rel=1e-4, abs=1e-6)
    text = (out / "quality.md").read_text()
    assert text in captured.out
    assert "| adam-4 |" in text
    with Image.open(out / "sheet.png") as sheet:
        assert sheet.size == (5 * 128 + 4 * 2, 20 + 2 * 128 + 2), "photo, aligned, encoder, 2, 4"


def test_ready_crops_are_taken_as_they_are(pack: str, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(pack, [photos], out, "--steps", "1", "--no-align", "--limit", "1", "--batch", "1") == 0
    assert json.loads((out / "quality.json").read_text())["photos"] == 1


@pytest.mark.parametrize(
    ("names", "options", "words"),
    [
        (["b.png"], [], "None of the photographs can be used. The last one: No face was found"),
        (["none.png"], [], "None of the photographs can be used. The last one: The file"),
        (["empty"], [], "there is no picture"),
        (["a.png"], ["--steps", "0"], "steps are [0]"),
        (["a.png"], ["--optimizers", "none"], "none"),
        (["a.png"], ["--batch", "0"], "batch is 0"),
        (["a.png"], ["--sheet", "0"], "sheet is 0"),
        (["a.png"], ["--limit", "0"], "limit is 0"),
        (["a.png"], ["--lpips", "none.safetensors"], "LPIPS needs 32 px; pack tiny has 16"),
        (["a.png"], ["--device", "toaster"], "device is 'toaster'"),
    ],
)
def test_what_cannot_be_done_is_refused(
    names: list[str], options: list[str], words: str, pack: str, photos: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (photos / "empty").mkdir()
    assert run(pack, [photos / name for name in names], tmp_path / "out", *options) == 2
    assert words in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_folders_are_read_in_order(photos: Path) -> None:
    (photos / "deeper").mkdir()
    draw_face().save(photos / "deeper" / "c.JPG", format="JPEG")
    single = Path("given/as/it/is.png")
    assert find_photos([photos, single]) == [photos / "a.png", photos / "b.png", photos / "deeper" / "c.JPG", single]

"""The command line, called as a program calls it."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from inversion_core.benchmark.reference import ReferenceLoop
from inversion_core.benchmark.speed import SpeedConfig, time_loops
from inversion_core.cli import build_parser, main
from inversion_core.cli.inverting import Outcome, PhotoRun, Plan
from inversion_core.cli.threads import fastest
from inversion_core.engine import Engine, EngineConfig, StopRules
from inversion_core.inverter import InvertConfig, invert
from inversion_core.packs import Pack, load_pack
from inversion_core.packs.places import PATH_VARIABLE
from inversion_core.pictures import to_image
from tests.drawn_face import draw_face
from tests.tiny import rough_pack, save_networks, tiny_targets
from tests.told import assert_bare, photos

COMMANDS = [
    [], ["invert"], ["submit"], ["pack"], ["pack", "list"], ["pack", "show"], ["pack", "verify"], ["pack", "convert-idinvert"],
    ["pack", "convert"],
    ["pack", "use-imagenet-vgg"], ["benchmark"], ["benchmark", "speed"], ["benchmark", "quality"],
    ["benchmark", "groups"], ["benchmark", "samples"], ["benchmark", "faces"], ["train"], ["train", "directions"],
    ["train", "optimizer"], ["pack", "add-optimizer"], ["pack", "change"], ["pack", "use-encoder"], ["pack", "use-features"],
    ["pack", "copy"], ["pack", "extend"], ["pack", "install"], ["pack", "archive"], ["edit"], ["mix"], ["interpolate"], ["diffuse"],
    ["directions"], *(["directions", kind] for kind in ("show", "sefa", "ganspace", "from", "import", "add")),
]  # fmt: skip


@pytest.fixture
def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny pack that is found by its name."""
    save_networks(tmp_path / "packs" / "tiny", rough_pack())
    monkeypatch.setenv(PATH_VARIABLE, str(tmp_path / "packs"))
    return tmp_path / "packs" / "tiny"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A photo without a face, for --no-align."""
    file = tmp_path / "photo.png"
    to_image(tiny_targets(1)[0]).resize((80, 96)).save(file)
    return file


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command) or "inversion")
def test_every_command_has_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    assert caught.value.code == 0
    assert "usage: inversion" in capsys.readouterr().out


def test_help_and_version_are_quick() -> None:
    """They import no PyTorch, which takes seconds."""
    code = "import sys; sys.modules['torch'] = None; from inversion_core.cli import main; main(sys.argv[1:])"
    for argv in (["--help"], ["--version"], ["invert", "--help"], ["train", "--help"], ["benchmark", "--help"]):
        done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), argv
    assert (
        f"inversion {version('stylegan-inversion')}"
        in subprocess.run([sys.executable, "-c", code, "--version"], capture_output=True, text=True, check=True).stdout
    )


class ThreadCosts:
    """A clock, and work that takes as long as the number of threads says."""

    def __init__(self, cost_s: dict[int, float]) -> None:
        self._cost_s, self.now_s = cost_s, 0.0

    def work(self) -> None:
        self.now_s += self._cost_s[torch.get_num_threads()]


@pytest.mark.parametrize(
    ("cost_s", "expected"), [({2: 1.0, 1: 1.6}, 2), ({2: 4.0, 1: 1.0}, 1), ({2: 1.0, 1: 1.0}, 1)],
    ids=["quiet machine", "busy machine", "no gain"],
)  # fmt: skip
def test_the_number_of_threads_that_is_fastest_is_taken(cost_s: dict[int, float], expected: int) -> None:
    before, costs = torch.get_num_threads(), ThreadCosts(cost_s)
    assert fastest((2, 1), costs.work, lambda: costs.now_s) == expected
    torch.set_num_threads(before)


def test_out_that_is_a_file_is_refused_at_once(pack: Path, photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["invert", str(photo), "--out", str(photo), "--pack", "tiny", "--steps", "1000000"]) == 2
    assert f"--out {photo} is a file; name a folder" in capsys.readouterr().err


def test_the_installed_program_answers() -> None:
    program = Path(sys.executable).with_name("inversion")
    done = subprocess.run([program, "pack", "show", "no-such-pack"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: There is no pack 'no-such-pack'")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("argv", [[], ["nonsense"], ["invert"], ["invert", "x.png", "--out", "o", "--start", "moon"]])
def test_a_wrong_command_line_ends_with_status_2(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2


# -- invert --------------------------------------------------------------------------------------------------


def test_invert_writes_everything(pack: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert (
        main(
            [
                "invert",
                str(photo),
                "--out",
                str(out),
                "--pack",
                "tiny",
                "--steps",
                "12",
                "--no-align",
                "--frame-every",
                "5",
                "--device",
                "cpu",
            ]
        )
        == 0
    )
    folder = out / "photo"
    assert sorted(path.name for path in folder.iterdir()) == [
        "aligned.png",
        "latents.npy",
        "losses.csv",
        "reconstruction.png",
        "strip.png",
    ]
    with (folder / "losses.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(13))
    losses = [float(row["loss"]) for row in rows]
    assert min(losses) < losses[0]
    latents = np.load(folder / "latents.npy")
    assert (latents.shape, latents.dtype) == ((6, 12), np.float32)
    with Image.open(folder / "reconstruction.png") as reconstruction, Image.open(folder / "strip.png") as strip:
        with torch.no_grad():
            expected = to_image(load_pack("tiny").synthesize(torch.from_numpy(latents)[None]))
        assert np.abs(np.asarray(reconstruction, dtype=int) - np.asarray(expected, dtype=int)).max() <= 1
        assert strip.size == (6 * 16 + 5 * 2, 16), "aligned, steps 0, 5, 10, 12, reconstruction"
    captured = capsys.readouterr()
    assert f"loss {min(losses):.5f}" in captured.out
    assert "13/13" in captured.err, "a progress bar"


def test_invert_repeats_itself_and_the_seed_counts(pack: Path, photo: Path, tmp_path: Path) -> None:
    codes = []
    for number, seed in enumerate((3, 3, 4)):
        out = tmp_path / str(number)
        argv = [
            "invert",
            str(photo),
            "--out",
            str(out),
            "--pack",
            "tiny",
            "--steps",
            "2",
            "--start",
            "random",
            "--no-align",
            "--device",
            "cpu",
        ]
        assert main([*argv, "--seed", str(seed)]) == 0
        codes.append(np.load(out / "photo" / "latents.npy"))
    assert np.array_equal(codes[0], codes[1])
    assert not np.array_equal(codes[0], codes[2])


def test_nothing_of_a_photo_but_pixels_is_written(pack: Path, tmp_path: Path) -> None:
    for kind, data in photos().items():
        (tmp_path / kind).write_bytes(data)
        argv = ["invert", str(tmp_path / kind), "--out", str(tmp_path / "out"), "--pack", "tiny", "--steps", "1"]
        assert main([*argv, "--no-align", "--device", "cpu"]) == 0
        written = list((tmp_path / "out" / kind).glob("*.png"))
        assert len(written) == 3
        for file in written:
            assert_bare(file.read_bytes())


def test_a_face_is_found_and_aligned(pack: Path, tmp_path: Path) -> None:
    draw_face().save(tmp_path / "face.jpg")
    assert (
        main(
            [
                "invert",
                str(tmp_path / "face.jpg"),
                "--out",
                str(tmp_path / "out"),
                "--pack",
                "tiny",
                "--steps",
                "0",
                "--device",
                "cpu",
            ]
        )
        == 0
    )
    with Image.open(tmp_path / "out" / "face" / "aligned.png") as aligned:
        assert aligned.size == (16, 16)


def test_a_mask_says_where_the_result_must_agree(
    pack: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--pack", "tiny", "--steps", "3", "--no-align", "--optimizer", "adam"]
    argv = ["invert", str(photo), *options]
    codes = {}
    for name, box in {"all": (0, 0, 80, 96), "left": (0, 0, 40, 96)}.items():
        mask = Image.new("L", (80, 96))
        mask.paste(255, box)
        mask.save(tmp_path / f"{name}.png")
        assert main([*argv, "--mask", str(tmp_path / f"{name}.png"), "--out", str(tmp_path / name)]) == 0
        codes[name] = np.load(tmp_path / name / "photo" / "latents.npy")
    assert main([*argv, "--out", str(tmp_path / "none")]) == 0
    assert np.array_equal(codes["all"], np.load(tmp_path / "none" / "photo" / "latents.npy"))
    assert not np.array_equal(codes["all"], codes["left"])
    Image.new("L", (80, 96)).save(tmp_path / "black.png")
    assert main([*argv, "--mask", str(tmp_path / "black.png"), "--out", str(tmp_path / "black")]) == 2
    assert "black" in capsys.readouterr().err
    assert (
        main(
            [
                "invert",
                str(photo),
                str(photo),
                *options,
                "--mask",
                str(tmp_path / "all.png"),
                "--out",
                str(tmp_path / "2"),
            ]
        )
        == 2
    )
    assert "--mask belongs to one photo" in capsys.readouterr().err


def test_one_of_several_faces_is_chosen(pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    face, two = draw_face(), Image.new("RGB", (900, 420), (120, 140, 160))
    two.paste(face.resize((400, 400)), (10, 10))
    two.paste(face.resize((300, 300)), (560, 60))
    two.save(tmp_path / "two.png")
    argv = ["invert", str(tmp_path / "two.png"), "--pack", "tiny", "--steps", "0"]
    for name, more in (("0", []), ("1", ["--face", "1"])):
        assert main([*argv, *more, "--out", str(tmp_path / name)]) == 0
    assert "2 faces, the largest was taken" in capsys.readouterr().err
    one, other = (Image.open(tmp_path / name / "two" / "aligned.png").tobytes() for name in "01")
    assert one != other
    assert main([*argv, "--face", "2", "--out", str(tmp_path / "2")]) == 2
    assert "the photo has 2" in capsys.readouterr().err


def test_one_bad_photo_does_not_stop_the_rest(
    pack: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, faceless = tmp_path / "broken.png", tmp_path / "grey.png"
    broken.write_bytes(photo.read_bytes()[:200])
    Image.new("RGB", (200, 200), (90, 90, 90)).save(faceless)
    draw_face().save(tmp_path / "face.png")
    photos = [str(broken), str(tmp_path / "none.png"), str(faceless), str(tmp_path / "face.png")]
    assert (
        main(["invert", *photos, "--out", str(tmp_path / "out"), "--pack", "tiny", "--steps", "1", "--device", "cpu"])
        == 2
    )
    message = capsys.readouterr().err
    for name in ("broken.png", "none.png", "grey.png"):
        assert f"error: {tmp_path / name}: " in message
    assert "3 of 4 photos failed" in message
    assert "--no-align" in message  # the command's own option, not the service's
    assert "align=false" not in message
    assert (tmp_path / "out" / "face" / "latents.npy").exists()
    assert not (tmp_path / "out" / "broken").exists()


def test_photos_of_one_name_do_not_overwrite_each_other(pack: Path, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    other = tmp_path / "b" / "photo.png"
    Image.new("RGB", (64, 64), (200, 30, 30)).save(other)
    argv = [
        "invert",
        str(photo),
        str(other),
        "--out",
        str(tmp_path / "out"),
        "--pack",
        "tiny",
        "--steps",
        "0",
        "--no-align",
        "--device",
        "cpu",
    ]
    assert main(argv) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["photo", "photo-2"]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (["--steps", "-1"], "num_steps is -1"),
        (["--optimizer", "magic"], "optimizer is 'magic'"),
        (["--pack", "none"], "There is no pack 'none'"),
        (["--frame-every", "0"], "--frame-every is 0"),
        (["--device", "toaster"], "device is 'toaster'"),
        (["--batch", "0"], "--batch is 0"),
        (["--face", "-1"], "it counts from 0"),
        (["--face", "0", "--no-align"], "does not go with --no-align"),
        (["--threads", "0"], "--threads is 0"),
        (["--learning-rate", "0"], "learning_rate is 0"),
        (["--regulariser", "nan"], "regulariser_weight is nan"),
        (["--start-code", __file__], "Give a code of this pack"),
        (["--detail-steps", "-1"], "detail_steps is -1"),
        (["--detail-steps", "2", "--detail-px", "64"], "this generator has 4, 8, 16"),
        (["--start-code", "none.npy"], "none.npy"),
    ],
)
def test_wrong_options_of_invert(
    option: list[str], words: str, pack: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["invert", str(photo), "--out", str(tmp_path / "out"), "--pack", "tiny", "--device", "cpu", *option]) == 2
    )
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert words in error
    assert not (tmp_path / "out").exists()


class StoppingBar:
    """A progress bar in whose stead somebody presses Ctrl-C after so many steps."""

    def __init__(self, stop: Event, after: int) -> None:
        self._stop, self._left, self.said = stop, after, []

    def update(self, steps: int = 1) -> None:
        self._left -= steps
        if self._left == 0:
            self._stop.set()

    def set_postfix(self, **_: object) -> None: ...

    def write(self, text: str, file: object = None) -> None:
        self.said.append(text)


@pytest.mark.parametrize(
    ("optimizer", "num_steps", "detail_steps"), [("adam", 12, 0), ("lbfgs", 12, 0), ("adam", 9, 3), ("adam", 4, 8)]
)
def test_a_stopped_photo_is_kept_and_goes_on(
    pack: Path, photo: Path, tmp_path: Path, optimizer: str, num_steps: int, detail_steps: int
) -> None:
    config = InvertConfig(num_steps=num_steps, detail_steps=detail_steps, optimizer=optimizer)
    files = ["losses.csv", "latents.npy", "reconstruction.png", "strip.png"]
    files += ["latents.safetensors"] if detail_steps else []

    def run(name: str, *, stop_after: int = 0, resume: bool = False) -> Outcome:
        stop = Event()
        plan = Plan(
            pack=load_pack("tiny"), config=config, rules=StopRules(),
            start=None, mask=None, align=False, face=None, frame_every=5, resume=resume,
        )  # fmt: skip
        with Engine(EngineConfig(slots=1)) as engine:
            return PhotoRun(engine, plan, stop, StoppingBar(stop, stop_after))(photo, tmp_path / name)

    assert run("whole") is Outcome.DONE
    assert run("parts", stop_after=7) is Outcome.STOPPED
    half = (tmp_path / "parts" / "losses.csv").read_text().splitlines()
    assert 7 <= len(half) - 1 < 13
    assert np.load(tmp_path / "parts" / "latents.npy").shape == (6, 12)
    assert run("parts", resume=True) is Outcome.DONE
    assert (tmp_path / "whole" / "latents.safetensors").exists() == bool(detail_steps)
    for name in files:
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert not (tmp_path / "parts" / "checkpoint.safetensors").exists()
    before = (tmp_path / "parts" / "latents.npy").stat().st_mtime_ns
    assert run("parts", resume=True) is Outcome.DONE, "nothing is left to do"
    assert (tmp_path / "parts" / "latents.npy").stat().st_mtime_ns == before


def test_what_an_earlier_run_wrote_must_be_whole_to_go_on(
    pack: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["invert", str(photo), "--out", str(tmp_path / "out"), "--pack", "tiny", "--steps", "2", "--no-align"]
    assert main(argv) == 0
    (tmp_path / "out" / "photo" / "losses.csv").write_text("step,loss\n1,x\n")
    assert main([*argv, "--resume"]) == 2
    assert "Leave --resume out" in capsys.readouterr().err


def test_the_number_at_once_changes_no_code(pack: Path, photo: Path, tmp_path: Path) -> None:
    photos = [str(photo)]
    for number in range(3):
        Image.effect_noise((80, 80), 40 + number).convert("RGB").save(tmp_path / f"{number}.png")
        photos.append(str(tmp_path / f"{number}.png"))
    argv = [
        "invert",
        *photos,
        "--pack",
        "tiny",
        "--steps",
        "4",
        "--no-align",
        "--start",
        "random",
        "--optimizer",
        "adam",
    ]
    for batch in ("1", "4"):
        assert main([*argv, "--out", str(tmp_path / batch), "--batch", batch]) == 0
    for folder in (tmp_path / "1").iterdir():
        assert (folder / "latents.npy").read_bytes() == (tmp_path / "4" / folder.name / "latents.npy").read_bytes()


def test_invert_takes_what_the_library_takes(pack: Path, photo: Path, tmp_path: Path) -> None:
    argv = ["invert", str(photo), "--pack", "tiny", "--no-align"]
    assert (
        main(
            [*argv, "--out", str(tmp_path / "first"), "--steps", "3", "--optimizer", "adam", "--learning-rate", "0.02"]
        )
        == 0
    )
    code = tmp_path / "first" / "photo" / "latents.npy"
    assert main([*argv, "--out", str(tmp_path / "on"), "--steps", "0", "--start-code", str(code)]) == 0
    assert np.array_equal(np.load(code), np.load(tmp_path / "on" / "photo" / "latents.npy"))
    assert (
        main([*argv, "--out", str(tmp_path / "fine"), "--steps", "1", "--detail-steps", "4", "--detail-px", "8"]) == 0
    )
    assert len((tmp_path / "fine" / "photo" / "losses.csv").read_text().splitlines()) == 1 + 6
    latent = tmp_path / "fine" / "photo" / "latents.safetensors"
    with safe_open(latent, "np") as tensors:
        assert {name: tensors.get_tensor(name).dtype for name in tensors.keys()} == {  # noqa: SIM118
            "w_plus": np.float32, "detail": np.float16,
        }  # fmt: skip
    assert main([*argv, "--out", str(tmp_path / "finer"), "--detail-steps", "2", "--start-code", str(latent)]) == 0
    losses = [
        [float(line.split(",")[1]) for line in (tmp_path / name / "photo" / "losses.csv").read_text().split()[1:]]
        for name in ("fine", "finer")
    ]
    assert len(losses[1]) == 3
    assert losses[1][0] == pytest.approx(losses[0][-1], rel=1e-3), "it goes on where the other ended"
    assert (
        main([*argv, "--out", str(tmp_path / "soon"), "--steps", "50", "--target-loss", "1e9", "--threads", "1"]) == 0
    )
    assert len((tmp_path / "soon" / "photo" / "losses.csv").read_text().splitlines()) == 2, "the start is good enough"


# -- pack ----------------------------------------------------------------------------------------------------


def test_pack_list_show_and_verify(pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pack", "list"]) == 0
    assert "tiny  " in capsys.readouterr().out
    assert main(["pack", "show", "tiny"]) == 0
    first, text = capsys.readouterr().out.split("\n", 1)
    assert first == f"folder: {pack}"
    assert json.loads(text)["num_layers"] == 6
    assert main(["pack", "verify", str(pack)]) == 0
    assert "tiny 1 is sound" in capsys.readouterr().out


def test_verify_of_a_truncated_pack(pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.truncate(pack / "generator.safetensors", 500)
    assert main(["pack", "verify", "tiny"]) == 2
    error = capsys.readouterr().err
    assert str(pack / "generator.safetensors") in error
    assert "Copy the pack again" in error


def test_use_imagenet_vgg_says_what_is_wrong_with_torchvision(
    pack: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.models", None)  # as where it is not installed
    before = (pack / "pack.json").read_bytes()
    assert main(["pack", "use-imagenet-vgg", "tiny"]) == 2
    assert "torchvision does not load beside torch" in capsys.readouterr().err
    assert (pack / "pack.json").read_bytes() == before


# -- benchmark -----------------------------------------------------------------------------------------------


def test_the_reference_loop_computes_the_same() -> None:
    pack, target = rough_pack(), tiny_targets(1)
    for weight in (0.0, 2.0):
        reference = ReferenceLoop(pack, target, pack.mean_codes(), learning_rate=0.02, regulariser_weight=weight)
        config = InvertConfig(num_steps=5, start="mean", learning_rate=0.02, regulariser_weight=weight)
        losses = [float(step.loss_B) for step in invert(pack, target, config)]
        assert [reference.step() for _ in losses] == pytest.approx(losses, rel=1e-3)
        plain = ReferenceLoop(
            pack, target, pack.mean_codes(), learning_rate=0.02, regulariser_weight=weight, is_frozen=True
        )
        assert [plain.step() for _ in losses] == pytest.approx(losses, rel=1e-3)


def test_benchmark_speed_writes_its_table(pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bench"
    argv = [
        "benchmark",
        "speed",
        "--out",
        str(out),
        "--pack",
        "tiny",
        "--small-only",
        "--iterations",
        "2",
        "--repeats",
        "3",
        "--concurrent",
        "1",
        "3",
    ]
    assert main(argv) == 0
    data = json.loads((out / "speed.json").read_text())
    assert [row["loss"] for row in data["rows"]] == ["equation 1", "equation 1 and in-domain regulariser"]
    assert all(row["ours_s"] > 0 and row["times_as_fast"] > 0 for row in data["rows"])
    for row in data["rows"]:
        losses = row["final_losses"]
        assert losses.keys() == {"ours", "invert", "plain", "reference"}
        assert list(losses.values()) == pytest.approx([losses["reference"]] * 4, rel=0.05)
    plain, regularised = data["rows"]
    assert data["of_reference_defaults"] == {plain["pack"]: plain["ours_s"] / regularised["reference_s"]}
    assert [crowd["images"] for crowd in data["concurrent"]] == [1, 3]
    for crowd in data["concurrent"]:
        assert crowd["images_per_s"] > 0
        assert 0 < crowd["matrix_part"] < 10
        assert 0 < crowd["roofline_part"] < 10
        assert 1e8 < crowd["peak_bytes"] < 2e9, "of a process that does nothing else"
        assert len(crowd["profile"]) == len(crowd["plain_profile"]) == 6
    assert {"device", "threads", "torch", "commit", "command"} <= set(data["facts"])
    chosen = data["precision"]["tiny"]
    assert chosen["chosen"] in {"float32", "bfloat16"}
    assert [trial["precision"] for trial in chosen["tried"]] == ["bfloat16"]
    table = (out / "speed.md").read_text()
    assert table.strip() in capsys.readouterr().out
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert [line.count("|") for line in lines] == [9] * 4 + [11] * 4, "two tables of head, rule and two rows"


def test_benchmark_refuses_loops_that_differ() -> None:
    class Other(Pack):
        @property
        def perceptual_weight(self) -> float:
            self.asked = getattr(self, "asked", 0) + 1
            return float(self.asked)  # another one each time

    pack = rough_pack()
    pack.__class__ = Other
    with pytest.raises(RuntimeError, match="do not compute the same"):
        time_loops(pack, SpeedConfig(iterations=1, repeats=1), regulariser_weight=0.0)


def test_wrong_options_of_the_benchmark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "speed", "--out", str(tmp_path), "--repeats", "0"]) == 2
    assert "at least 1" in capsys.readouterr().err


def test_the_parser_is_built_without_running_anything() -> None:
    args = build_parser().parse_args(["invert", "a.png", "b.png", "--out", "o"])
    assert (args.steps, args.seed, args.start, args.optimizer) == (None, 0, None, None)

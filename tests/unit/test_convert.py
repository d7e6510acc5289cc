"""Published files become packs that compute the same; what is wrong with a file is named."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from inversion_core.cli import main
from inversion_core.models.generators.stylegan1.idinvert import NEVER_FUSED
from inversion_core.packs import load_pack
from tests.published import (
    Architecture,
    draw,
    layout,
    naive_encode,
    naive_map,
    naive_synthesize,
    naive_vgg,
    recipe,
    vgg_state,
    write_files,
)

SMALL = Architecture(channels=(8, 6, 4), fused_from=16)
ARCHITECTURES = {
    "both forms of up-sampling": SMALL,
    "none fused": Architecture(channels=(8, 6, 4, 4), fused_from=NEVER_FUSED),
    "all fused": Architecture(channels=(4, 4), fused_from=8),
    "one w for all layers": Architecture(channels=(6, 5), w_per_layer=False),
    "no batch norm": Architecture(channels=(6, 5, 4), batch_norm=False),
    "wide mapping, wide encoder": Architecture(channels=(5, 6, 7, 8), mapping_dim=9, encoder_base=2, encoder_max=64),
    "64 px, the last layer fused": Architecture(channels=(6, 6, 4, 4, 4), fused_from=64, mapping_layers=8),
}


def convert(files: dict[str, Path], out: Path, *more: str) -> int:
    command = ["pack", "convert-idinvert", "--generator", str(files["generator"]), "--vgg", str(files["vgg16"])]
    encoder = ["--encoder", str(files["encoder"])] if "encoder" in files else []
    return main([*command, *encoder, "--out", str(out), *more])


@pytest.mark.parametrize("arch", ARCHITECTURES.values(), ids=ARCHITECTURES.keys())
def test_a_converted_pack_computes_what_the_published_weights_mean(arch: Architecture, tmp_path: Path) -> None:
    layouts, zipped = layout(arch), arch is not SMALL  # either layout of .pth files
    states = {model: recipe(model, layouts[model]) for model in ("generator", "encoder")}
    assert convert(write_files(tmp_path, layouts, zipped=zipped), tmp_path / "pack") == 0
    pack = load_pack(tmp_path / "pack")
    assert (pack.resolution, pack.num_layers, pack.w_dim) == (arch.resolution, arch.num_layers, arch.w_dim)
    z = torch.from_numpy(draw("z", (2, arch.w_dim)))
    w = torch.from_numpy(draw("wplus", (2, arch.num_layers, arch.w_dim)))
    image = pack.synthesize(w)
    torch.testing.assert_close(pack.map(z), naive_map(states["generator"], arch, z), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(image, naive_synthesize(states["generator"], arch, w), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(pack.encode(image), naive_encode(states["encoder"], arch, image), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(pack.features(image), naive_vgg(vgg_state(), image), rtol=1e-4, atol=1e-3)


def test_without_an_encoder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = write_files(tmp_path, layout(SMALL))
    del files["encoder"]
    assert convert(files, tmp_path / "pack", "--name", "bare") == 0
    pack = load_pack(tmp_path / "pack")
    assert pack.name == "bare"
    assert not pack.has_encoder
    assert "bare, 16 px, codes 6x6" in capsys.readouterr().out


def test_half_precision_is_half_the_size_and_nearly_the_same(tmp_path: Path) -> None:
    files = write_files(tmp_path, layout(SMALL))
    assert convert(files, tmp_path / "full") == 0
    assert convert(files, tmp_path / "half", "--half") == 0
    sizes = [(tmp_path / name / "perceptual.safetensors").stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.51 * sizes[0]
    w = torch.from_numpy(draw("wplus", (1, 6, 6)))
    full, half = (load_pack(tmp_path / name).synthesize(w) for name in ("full", "half"))
    assert half.dtype == torch.float32
    assert 0 < (full - half).abs().max() < 0.05


def test_the_file_may_lack_the_truncation_and_the_batch_counters(tmp_path: Path) -> None:
    files = write_files(tmp_path, layout(SMALL))
    for model in ("generator", "encoder"):
        state = torch.load(files[model])
        kept = {
            k: v for k, v in state.items() if k != "truncation.truncation" and not k.endswith("num_batches_tracked")
        }
        torch.save(kept, files[model])
    assert convert(files, tmp_path / "pack") == 0


# -- what is wrong is named ----------------------------------------------------------------------------------


def without(key: str) -> Callable[[dict[str, Tensor]], None]:
    return lambda state: state.__delitem__(key)


def with_value(key: str, value: Tensor) -> Callable[[dict[str, Tensor]], None]:
    return lambda state: state.__setitem__(key, value)


BROKEN = [
    ("generator", "synthesis.layer3.conv.weight", without("synthesis.layer3.conv.weight")),
    ("generator", "synthesis.layer5.epilogue.bias", without("synthesis.layer5.epilogue.bias")),
    ("generator", "mapping.dense0.fc.weight", without("mapping.dense0.fc.weight")),
    ("generator", "mapping.dense2.fc.weight", without("mapping.dense2.fc.weight")),
    ("generator", "mapping.dense0.fc.weight", with_value("mapping.dense0.fc.weight", torch.zeros(6, 5))),
    ("generator", "mapping.dense1.fc.weight", with_value("mapping.dense1.fc.weight", torch.zeros(7, 6))),
    ("generator", "mapping.dense2.fc.weight", with_value("mapping.dense2.fc.weight", torch.zeros(35, 6))),
    ("generator", "truncation.w_avg", without("truncation.w_avg")),
    ("generator", "truncation.w_avg", with_value("truncation.w_avg", torch.zeros(7))),
    ("generator", "truncation.truncation", with_value("truncation.truncation", torch.zeros(1, 8, 1))),
    ("generator", "synthesis.lod", with_value("synthesis.lod", torch.tensor(0.5))),
    ("generator", "synthesis.layer0.const", with_value("synthesis.layer0.const", torch.zeros(1, 8, 8, 8))),
    ("generator", "synthesis.layer2.conv.weight", with_value("synthesis.layer2.conv.weight", torch.zeros(8, 6, 3, 3))),
    ("generator", "synthesis.layer4.weight", with_value("synthesis.layer4.weight", torch.zeros(3, 3, 4, 6))),
    ("generator", "synthesis.layer2.blur.kernel", with_value("synthesis.layer2.blur.kernel", torch.ones(6, 1, 3, 3) / 9)),
    ("generator", "synthesis.layer1.epilogue.apply_noise.noise", with_value("synthesis.layer1.epilogue.apply_noise.noise", torch.zeros(1, 1, 8, 8))),
    ("generator", "synthesis.output2.bias", with_value("synthesis.output2.bias", torch.tensor([0.0, torch.nan, 0.0]))),
    ("generator", "label_weight", with_value("label_weight", torch.zeros(3))),
    ("encoder", "block1.conv1.weight", without("block1.conv1.weight")),
    ("encoder", "block0.conv.weight", with_value("block0.conv.weight", torch.zeros(4, 3, 3, 3))),
    ("encoder", "block3.fc.weight", with_value("block3.fc.weight", torch.zeros(36, 81))),
    ("encoder", "block2.bn2.bn.running_var", with_value("block2.bn2.bn.running_var", -torch.ones(5))),
    ("encoder", "block1.bn1.bn.running_mean", without("block1.bn1.bn.running_mean")),
    ("encoder", "block4.fc.weight", with_value("block4.fc.weight", torch.zeros(3, 3))),
    ("vgg16", "layer21.bias", without("layer21.bias")),
    ("vgg16", "layer0.weight", with_value("layer0.weight", torch.zeros(64, 4, 3, 3))),
    ("vgg16", "classifier.weight", with_value("classifier.weight", torch.zeros(3))),
]  # fmt: skip


@pytest.mark.parametrize(("model", "key", "change"), BROKEN, ids=[f"{m}-{k}-{i}" for i, (m, k, _) in enumerate(BROKEN)])
def test_a_wrong_state_dict_names_file_and_key(
    model: str, key: str, change: Callable[[dict[str, Tensor]], None], small_files: dict[str, Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    state = torch.load(small_files[model])
    change(state)
    files = small_files | {model: tmp_path / f"broken-{model}.pth"}
    torch.save(state, files[model])
    assert convert(files, tmp_path / "pack") == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert str(files[model]) in message
    assert repr(key) in message
    assert "Take the file as it was published" in message
    assert not (tmp_path / "pack").exists()


def test_files_in_each_others_place_are_told_apart(
    small_files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert(small_files | {"generator": small_files["encoder"]}, tmp_path / "pack") == 2
    told = capsys.readouterr().err
    assert (
        f"{small_files['encoder']} is no generator of IDInvert: it looks like an encoder (keys block0.conv.weight,"
        in told
    )
    assert "Give it as --encoder." in told
    assert convert(small_files | {"encoder": small_files["vgg16"]}, tmp_path / "pack") == 2
    assert "looks like VGG-16" in capsys.readouterr().err


def wrapped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As DataParallel saves it."""
    return {f"module.{key}": value for key, value in state.items()}


def test_what_dataparallel_puts_before_the_keys_is_left_off(small_files: dict[str, Path], tmp_path: Path) -> None:
    files = dict(small_files)
    for model, file in small_files.items():
        files[model] = tmp_path / f"{model}.pth"
        torch.save(wrapped(torch.load(file)), files[model])
    assert convert(files, tmp_path / "wrapped") == 0
    assert convert(small_files, tmp_path / "plain") == 0
    w = torch.from_numpy(draw("wplus", (1, 6, 6)))
    one, other = (load_pack(tmp_path / name).synthesize(w) for name in ("wrapped", "plain"))
    assert torch.equal(one, other)


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """genforce's later names."""
    return {key.replace(".fc.", ".").replace(".wscale.", "."): value for key, value in state.items()}


FOREIGN: dict[str, tuple[str, Callable[[dict[str, Tensor]], object], str, str]] = {
    "genforce": ("generator", renamed, "a generator of genforce with other key names", "Take the file that"),
    "a checkpoint": ("generator", lambda s: {"models": {"generator_smooth": s, "discriminator": s}, "step": 3}, "['models']['generator_smooth']", "torch.save(torch.load("),
    "StyleGAN2": ("generator", lambda s: {"synthesis.b4.const": torch.zeros(3), "mapping.fc0.weight": torch.zeros(3)}, "StyleGAN2", "inversion pack convert"),
    "rosinality": ("generator", lambda s: {"g_ema": {"style.1.weight": torch.zeros(3), "conv1.conv.modulation.bias": torch.zeros(3)}}, "['g_ema']", "torch.save(torch.load("),
    "e4e": ("encoder", lambda s: {"encoder.input_layer.0.weight": torch.zeros(3)}, "e4e", "Take the encoder"),
    "torchvision": ("vgg16", lambda s: {"features.0.weight": torch.zeros(3), "classifier.0.bias": torch.zeros(3)}, "torchvision's VGG-16", "use-imagenet-vgg"),
    "a language model": ("encoder", lambda s: {"wte.weight": torch.zeros(3), "wpe.weight": torch.zeros(2)}, "none that this program knows (keys wte.weight, wpe.weight)", "genforce/idinvert_pytorch"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_file_is_called_what_it_is(
    name: str, small_files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, change, what, remedy = FOREIGN[name]
    files = small_files | {model: tmp_path / "foreign.pth"}
    torch.save(change(torch.load(small_files[model])), files[model])
    assert convert(files, tmp_path / "pack") == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {files[model]} is ")
    assert what in told
    assert remedy in told
    assert "resolutions" not in told


def test_an_encoder_of_another_size_is_told_so(
    small_files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    larger = write_files(tmp_path, layout(Architecture(channels=(8, 6, 4, 4, 4))))
    assert convert(small_files | {"encoder": larger["encoder"]}, tmp_path / "pack") == 2
    told = capsys.readouterr().err
    assert "is an encoder for pictures of 64 px" in told
    assert "the generator makes 16 px" in told


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("styleganinv_ffhq256_generator.pth", "idinvert-ffhq-16"),
        ("styleganinv_tower256_generator.pth", "idinvert-tower-16"),
        ("my G.pth", "idinvert-16"),
    ],
)
def test_a_pack_is_named_by_what_it_is(file: str, name: str, small_files: dict[str, Path], tmp_path: Path) -> None:
    generator = tmp_path / file
    generator.write_bytes(small_files["generator"].read_bytes())
    assert convert(small_files | {"generator": generator}, tmp_path / "pack") == 0
    assert load_pack(tmp_path / "pack").name == name


@pytest.mark.parametrize("model", ["generator", "encoder", "vgg16"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.98])
def test_a_truncated_file_is_named(
    model: str, share: float, small_files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = small_files[model].read_bytes()
    files = small_files | {model: tmp_path / "cut.pth"}
    files[model].write_bytes(data[: int(len(data) * share)])
    assert convert(files, tmp_path / "pack") == 2
    message = capsys.readouterr().err
    assert str(files[model]) in message
    assert not (tmp_path / "pack").exists()


def test_a_pickle_with_code_in_it_is_refused_and_not_run(
    small_files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "pwned"),)

    files = small_files | {"encoder": tmp_path / "evil.pth"}
    torch.save({**torch.load(small_files["encoder"]), "extra": Evil()}, files["encoder"])
    assert convert(files, tmp_path / "pack") == 2
    message = capsys.readouterr().err
    assert str(files["encoder"]) in message
    assert "mkdir" in message
    assert not (tmp_path / "pwned").exists()


def test_a_pack_that_is_there_stays_unless_told_otherwise(
    small_files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert(small_files, tmp_path / "pack", "--name", "first") == 0
    assert convert(small_files, tmp_path / "pack", "--name", "second") == 2
    told = capsys.readouterr().err
    assert "there already" in told
    assert "--overwrite" in told
    assert load_pack(tmp_path / "pack").name == "first"
    assert convert(small_files, tmp_path / "pack", "--name", "second", "--overwrite") == 0
    assert load_pack(tmp_path / "pack").name == "second"


def test_a_bad_name_is_refused(
    small_files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert(small_files, tmp_path / "pack", "--name", "../x") == 2
    assert "--name" in capsys.readouterr().err


@pytest.fixture(scope="module")
def small_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_files(tmp_path_factory.mktemp("published"), layout(SMALL))

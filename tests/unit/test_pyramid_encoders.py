"""Encoders of pSp, e4e and ReStyle: against their description in plain operations, and from files to packs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from inversion_core.errors import PackInvalid
from inversion_core.models.encoders.pyramid import PyramidConfig, PyramidEncoder
from inversion_core.models.serving import serving
from inversion_core.packs import Pack, load_pack
from inversion_core.packs.converting import convert_files
from tests import stylegan2_files as files

State = dict[str, Tensor]
SMALL = PyramidConfig(
    resolution=64, num_layers=10, w_dim=64, input_px=32, channels=(16, 32, 48, 64), blocks=(1, 2, 1, 2)
)  # fmt: skip
KINDS = {
    "pSp": ("GradualStyleEncoder", 3, True), "e4e": ("Encoder4Editing", 3, True), "ReStyle": ("BackboneEncoder", 6, False),
    "ReStyle, e4e": ("ProgressiveBackboneEncoder", 6, False),
}  # fmt: skip


def weights(config: PyramidConfig) -> State:
    """Numbers that keep activations near one, and no batch norm that does nothing."""
    draw, state = torch.Generator().manual_seed(2), {}
    for key, value in PyramidEncoder(config).state_dict().items():
        if key == "start_LD" or value.ndim == 0:
            continue
        drawn = torch.randn(value.shape, generator=draw)
        if key.endswith("running_var"):
            drawn = 1 + 0.1 * drawn.abs()
        elif value.ndim == 4:
            drawn = drawn * (2 / value[0].numel()) ** 0.5
        elif value.ndim == 1:
            drawn = 0.1 * drawn + (1.0 if key.endswith("weight") else 0.0)
        state[key] = drawn
    return state


def plain(state: State, x: Tensor, *, is_relative: bool, rows: int, ends: tuple[int, int, int]) -> Tensor:
    """What the description says, one operation after another, straight from a file's keys."""

    def norm(x: Tensor, key: str) -> Tensor:
        mean, var = state[f"{key}.running_mean"], state[f"{key}.running_var"]
        scale = state[f"{key}.weight"] / torch.sqrt(var + 1e-5)
        return (x - mean[:, None, None]) * scale[:, None, None] + state[f"{key}.bias"][:, None, None]

    def prelu(x: Tensor, key: str) -> Tensor:
        return torch.where(x > 0, x, x * state[f"{key}.weight"][:, None, None])

    def bottleneck(x: Tensor, key: str, stride: int) -> Tensor:
        y = F.conv2d(norm(x, f"{key}.res_layer.0"), state[f"{key}.res_layer.1.weight"], padding=1)
        y = F.conv2d(prelu(y, f"{key}.res_layer.2"), state[f"{key}.res_layer.3.weight"], padding=1, stride=stride)
        y = norm(y, f"{key}.res_layer.4")
        se = F.relu(F.conv2d(y.mean((2, 3), keepdim=True), state[f"{key}.res_layer.5.fc1.weight"]))
        y = y * torch.sigmoid(F.conv2d(se, state[f"{key}.res_layer.5.fc2.weight"]))
        if f"{key}.shortcut_layer.0.weight" in state:
            x = norm(F.conv2d(x, state[f"{key}.shortcut_layer.0.weight"], stride=stride), f"{key}.shortcut_layer.1")
        else:
            x = x[..., ::stride, ::stride]
        return x + y

    x = prelu(norm(F.conv2d(x, state["input_layer.0.weight"], padding=1), "input_layer.1"), "input_layer.2")
    taps, index = {}, 0
    while f"body.{index}.res_layer.0.weight" in state:
        before = state[f"body.{index - 1}.res_layer.3.weight"].shape[0] if index else -1
        out = state[f"body.{index}.res_layer.3.weight"].shape[0]
        x = bottleneck(x, f"body.{index}", 2 if out != before else 1)
        taps[index] = x
        index += 1
    c1, c2, c3 = (taps[end] for end in ends)
    if "latlayer1.weight" in state:
        lateral = F.conv2d(c2, state["latlayer1.weight"], state["latlayer1.bias"])
        p2 = F.interpolate(c3, size=c2.shape[2:], mode="bilinear", align_corners=True) + lateral
        lateral = F.conv2d(c1, state["latlayer2.weight"], state["latlayer2.bias"])
        p1 = F.interpolate(p2, size=c1.shape[2:], mode="bilinear", align_corners=True) + lateral
    else:
        p1 = p2 = c3
    codes: list[Tensor] = []
    for row in range(rows):
        y, conv = (c3 if row < 3 else p2 if row < 7 else p1), 0
        while f"styles.{row}.convs.{conv}.weight" in state:
            weight, bias = (state[f"styles.{row}.convs.{conv}.{part}"] for part in ("weight", "bias"))
            y, conv = F.leaky_relu(F.conv2d(y, weight, bias, stride=2, padding=1), 0.01), conv + 2
        weight = state[f"styles.{row}.linear.weight"]
        y = y.flatten(1) @ weight.T / weight.shape[1] ** 0.5 + state[f"styles.{row}.linear.bias"]
        codes.append(y + codes[0] if is_relative and row else y)
    return torch.stack(codes, dim=1)


def write(file: Path, kind: str, *, opts: bool = True, mean: bool = True, drop: str = "") -> State:
    """A checkpoint with a decoder and an encoder; returns the encoder's state."""
    encoder_type, channels, has_pyramid = KINDS[kind]
    config = PyramidConfig(**{**vars(SMALL), "passes": 1 if channels == 6 else 0, "has_pyramid": has_pyramid})
    encoder, decoder = weights(config), files.nvidia(files.SMALL)
    state = {f"encoder.{key}": value for key, value in encoder.items() if key != drop}
    state |= {f"decoder.{key}": value for key, value in files.rosinality(decoder).items()}
    content: dict[str, object] = {"state_dict": state}
    if mean:
        content["latent_avg"] = decoder["mapping.w_avg"].repeat(10, 1)
    if opts:
        content["opts"] = {"encoder_type": encoder_type, "start_from_latent_avg": mean, "n_iters_per_batch": 3}
    torch.save(content, file)
    return encoder


def converted(folder: Path, kind: str, **options: bool) -> tuple[Pack, State]:
    state = write(folder / "e.pt", kind, **options)  # type: ignore[arg-type]
    convert_files([folder / "e.pt"], folder / "pack")
    return load_pack(folder / "pack"), state


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("kind", ["pSp", "e4e"])
@pytest.mark.parametrize("mean", [True, False])
def test_one_look(kind: str, mean: bool, pictures: Tensor, tmp_path: Path) -> None:
    pack, state = converted(tmp_path, kind, mean=mean)
    small = F.avg_pool2d(pictures, 2)
    wanted = plain(state, small, is_relative=kind == "e4e", rows=10, ends=(2, 3, 5))
    wanted = wanted + (pack.mean_codes() if mean else 0)
    found = pack.encode(pictures)
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    assert pack.manifest.starts[0] == "encoder"


@pytest.mark.parametrize("kind", ["ReStyle", "ReStyle, e4e"])
def test_passes(kind: str, pictures: Tensor, tmp_path: Path) -> None:
    pack, state = converted(tmp_path, kind)
    w_BLD = pack.mean_codes(2)
    for _ in range(3):
        seen = torch.cat([F.avg_pool2d(pictures, 2), F.avg_pool2d(pack.synthesize(w_BLD), 2)], dim=1)
        w_BLD = w_BLD + plain(state, seen, is_relative="e4e" in kind, rows=10, ends=(2, 3, 5))
    found = pack.encode(pictures)
    assert (found - w_BLD).abs().max() <= 1e-4 * w_BLD.abs().max()


def test_while_serving_a_picture_is_encoded_as_if_alone(pictures: Tensor, tmp_path: Path) -> None:
    pack, _ = converted(tmp_path, "e4e")
    with serving():
        together_BLD = pack.encode(pictures)
        assert torch.equal(torch.cat([pack.encode(row[None]) for row in pictures]), together_BLD)


@pytest.mark.parametrize(("resolution", "rows", "millions"), [(1024, 18, 267.1), (256, 14, 209.5)])
def test_published_sizes(resolution: int, rows: int, millions: float) -> None:
    with torch.device("meta"):
        encoder = PyramidEncoder(PyramidConfig(resolution=resolution, num_layers=rows, is_relative=True))
    count = sum(parameter.numel() for parameter in encoder.parameters())
    assert round(count / 1e6, 1) == millions
    if resolution == 1024:
        assert len(encoder.state_dict()) == 621 + 1  # and what the rows are added to


def test_the_same_encoder_beside_another_generator(pictures: Tensor, tmp_path: Path) -> None:
    write(tmp_path / "e.pt", "e4e")
    torch.save(files.nvidia(files.SMALL), tmp_path / "g.pt")
    said: list[str] = []
    convert_files([tmp_path / "g.pt", tmp_path / "e.pt"], tmp_path / "pack", say=said.append)
    assert load_pack(tmp_path / "pack").encode(pictures).shape == (2, 10, 64)
    assert any("an encoder of e4e; used" in line for line in said)


def test_faults(tmp_path: Path) -> None:
    write(tmp_path / "e.pt", "pSp", opts=False)
    with pytest.raises(PackInvalid, match=r"pSp or of e4e.*'opts'"):
        convert_files([tmp_path / "e.pt"], tmp_path / "pack")
    write(tmp_path / "e.pt", "ReStyle", mean=False)
    with pytest.raises(PackInvalid, match=r"latent_avg.*missing"):
        convert_files([tmp_path / "e.pt"], tmp_path / "pack")
    write(tmp_path / "e.pt", "pSp", drop="body.3.res_layer.4.running_var")
    with pytest.raises(PackInvalid, match=r"encoder\].*body\.3\.res_layer\.4\.running_var.*missing"):
        convert_files([tmp_path / "e.pt"], tmp_path / "pack")
    write(tmp_path / "e.pt", "pSp")
    torch.save(files.nvidia(files.TINY), tmp_path / "g.pt")
    with pytest.raises(PackInvalid, match="makes codes 10x64, and the generator takes 6x32"):
        convert_files([tmp_path / "g.pt", tmp_path / "e.pt"], tmp_path / "pack")
    for change in ({"blocks": (1,)}, {"channels": (8, 8, 8, 8)}, {"input_px": 100}, {"passes": 101}):
        with pytest.raises(ValueError, match="must"):
            PyramidConfig(**{**vars(SMALL), **change})


def test_of_an_encoder_with_another_body_the_decoder_alone_is_used(tmp_path: Path) -> None:
    state = {f"decoder.{key}": value for key, value in files.rosinality(files.nvidia(files.TINY)).items()}
    state |= {"encoder.conv1.weight": torch.zeros(64, 6, 7, 7), "encoder.styles.0.convs.0.weight": torch.zeros(3)}
    torch.save({"state_dict": state, "latent_avg": torch.zeros(6, 32), "opts": {}}, tmp_path / "r.pt")
    said: list[str] = []
    assert not convert_files([tmp_path / "r.pt"], tmp_path / "pack", say=said.append).has_encoder
    assert any("another body than IR-SE-50, which is not used; ignored" in line for line in said)

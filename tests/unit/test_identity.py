"""The identity term: ONNX files as PyTorch computes them, the same face at distance 0, runs that begin with a pack."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from inversion_core.benchmark.features import embedders
from inversion_core.benchmark.identity import INPUT_PX, IdentityNetwork, identity_crop
from inversion_core.cli import main
from inversion_core.errors import OptionInvalid, PackInvalid
from inversion_core.models import Encoder
from inversion_core.models.onnx_network import OnnxNetwork
from inversion_core.packs import load_networks, save_pack
from inversion_core.pictures import to_image, to_tensor
from inversion_core.training.data import PictureSet
from inversion_core.training.encoder import EncoderTrainer, EncoderTraining
from inversion_core.training.generator import GeneratorTrainer, GeneratorTraining
from inversion_core.training.identity import ALIGNED_LANDMARKS, IdentityDistance, load_identity
from inversion_core.training.run import CHECKPOINT, RunFolder, read_checkpoint, tensors_below
from tests.tiny import DISCRIMINATOR, ENCODER, GENERATOR, noise_archive, save_networks, tiny_pack

Nodes = list[onnx.NodeProto]


def draw(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def save(file: Path, nodes: Nodes, *, side: int = INPUT_PX, **arrays: np.ndarray[Any, Any]) -> Path:
    """A network from `x` (1, 3, side, side) to `y`, of these operations and weights."""
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, side, side]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
    ]
    weights = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "test", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8), str(file))
    return file


def constant(name: str, array: np.ndarray[Any, Any]) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array))


def embedder(file: Path) -> Path:
    """A random network of the kind that recognises faces."""
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["a"], kernel_shape=[3, 3], strides=[4, 4], pads=[1, 1, 0, 0]),
        helper.make_node("BatchNormalization", ["a", "scale", "bias", "mean", "var"], ["n"], epsilon=1e-3),
        helper.make_node("PRelu", ["n", "slope"], ["p"]),
        helper.make_node("Conv", ["p", "depthwise"], ["d"], group=4, dilations=[2, 2], pads=[2, 2, 2, 2]),
        constant("low", np.float32(-1)),
        constant("high", np.float32(6)),
        helper.make_node("Clip", ["d", "low", "high"], ["c"]),
        helper.make_node("Clip", ["c", "", "high"], ["o"]),
        helper.make_node("Relu", ["o"], ["r"]),
        helper.make_node("Add", ["r", "p"], ["s"]),
        helper.make_node("GlobalAveragePool", ["s"], ["g"]),
        constant("shape", np.array([1, -1])),
        helper.make_node("Reshape", ["g", "shape"], ["f"]),
        helper.make_node("Gemm", ["f", "m", "v"], ["y"], transB=1, beta=0.5),
    ]
    return save(
        file, nodes, w=draw(4, 3, 3, 3), b=draw(4, seed=1), scale=draw(4, seed=2), bias=draw(4, seed=3),
        mean=draw(4, seed=4), var=draw(4, seed=5) ** 2 + 0.5, slope=draw(4, 1, 1, seed=6),
        depthwise=draw(4, 1, 3, 3, seed=7), m=draw(8, 4, seed=8), v=draw(8, seed=9),
    )  # fmt: skip


# -- networks from ONNX files --------------------------------------------------------------------------------


def test_a_network_computes_what_onnxruntime_computes(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    file = embedder(tmp_path / "net.onnx")
    x_BCHW = draw(3, 3, INPUT_PX, INPUT_PX)
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    expected = np.concatenate([session.run(None, {"x": x_BCHW[k : k + 1]})[0] for k in range(3)])
    torch.testing.assert_close(OnnxNetwork(file)(torch.from_numpy(x_BCHW)), torch.from_numpy(expected))


def test_a_gradient_reaches_the_picture(tmp_path: Path) -> None:
    x_BCHW = torch.from_numpy(draw(2, 3, INPUT_PX, INPUT_PX)).requires_grad_()
    OnnxNetwork(embedder(tmp_path / "net.onnx"))(x_BCHW).sum().backward()
    assert x_BCHW.grad is not None
    assert x_BCHW.grad.abs().sum() > 0


def test_what_is_no_such_network_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(bytes(range(200)))
    with pytest.raises(PackInvalid, match=r"bad\.onnx is no ONNX file"):
        OnnxNetwork(tmp_path / "bad.onnx")
    with pytest.raises(PackInvalid, match=r"none\.onnx is no ONNX file"):
        OnnxNetwork(tmp_path / "none.onnx")
    sine = save(tmp_path / "sine.onnx", [helper.make_node("Sin", ["x"], ["y"])])
    with pytest.raises(PackInvalid, match="not understood: Sin"):
        OnnxNetwork(sine)
    with pytest.raises(PackInvalid, match="wanted are embeddings"):
        load_identity(save(tmp_path / "relu.onnx", [helper.make_node("Relu", ["x"], ["y"])]))
    narrow = save(tmp_path / "narrow.onnx", [helper.make_node("Conv", ["x", "w"], ["y"])], w=draw(2, 5, 3, 3))
    with pytest.raises(PackInvalid, match="does not take pictures"):
        load_identity(narrow)


def test_without_the_package_the_remedy_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = embedder(tmp_path / "net.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(OptionInvalid, match=r"stylegan-inversion\[training\]"):
        load_identity(file)


# -- the distance --------------------------------------------------------------------------------------------


def smooth(count: int, side: int, seed: int = 0) -> Tensor:
    low_BCHW = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(low_BCHW, size=side, mode="bicubic").clamp(0, 1) * 2 - 1


@pytest.mark.parametrize("side", [16, 64, 200])
def test_equal_pictures_are_at_distance_0_and_others_are_not(side: int, tmp_path: Path) -> None:
    distance = load_identity(embedder(tmp_path / "net.onnx"))
    a, b = smooth(3, side), smooth(3, side, seed=1)
    assert distance(a, a).abs().max() < 1e-5
    assert (distance(a, b) > 1e-3).all()
    assert (distance(a, b) <= 2).all()


def test_the_network_sees_what_the_benchmark_shows_it(tmp_path: Path) -> None:
    """At the mean landmarks both cut the same square out, up to how they interpolate."""
    pytest.importorskip("onnxruntime")
    file, picture_BCHW = embedder(tmp_path / "net.onnx"), smooth(1, 64)
    crop = identity_crop(to_image(picture_BCHW[0]), ALIGNED_LANDMARKS * 64)
    seen: list[Tensor] = []

    class Spy(nn.Module):
        def forward(self, x_BCHW: Tensor) -> Tensor:
            seen.append(x_BCHW)
            return x_BCHW.flatten(1)

    spied = IdentityDistance(Spy())
    spied.embed(picture_BCHW)
    pixels_BCHW = (seen[0] * spied.std_C[:, None, None] + spied.mean_C[:, None, None]) * 2 - 1
    assert (pixels_BCHW - to_tensor(crop)).abs().max() < 0.06
    ours, theirs = load_identity(file).embed(picture_BCHW).double(), IdentityNetwork(file)([crop])
    assert (ours * theirs).sum() > 0.999


# -- in a training -------------------------------------------------------------------------------------------


def picture_set() -> PictureSet:
    pixels_NCHW = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (12, 3, 16, 16), dtype=np.uint8))
    return PictureSet(pictures_NCHW=pixels_NCHW, weight_N=torch.ones(12), names=("",) * 12)


def test_embeddings_are_compared_at_the_size_that_kid_expects(tmp_path: Path) -> None:
    identity = load_identity(embedder(tmp_path / "net.onnx"))
    assert embedders(None, None) == {}
    embeds = embedders(None, identity)
    features_BF = embeds["identity"](torch.rand(3, 3, 16, 16))
    torch.testing.assert_close(features_BF.square().mean(dim=1), torch.ones(3))


def generator_trainer(run: Path, identity: IdentityDistance | None, **changes: Any) -> GeneratorTrainer:
    start_from = changes.pop("start_from", None)
    config = GeneratorTraining(
        **{"encoder": ENCODER, **changes}, generator=GENERATOR, discriminator=DISCRIMINATOR, batch_size=2
    )  # fmt: skip
    pictures = picture_set()
    return GeneratorTrainer(config, pictures, pictures, RunFolder(run), identity=identity, start_from=start_from)


def encoder_trainer(run: Path, identity: IdentityDistance | None, **changes: Any) -> EncoderTrainer:
    config, pictures = EncoderTraining(encoder=ENCODER, batch_size=2, **changes), picture_set()
    return EncoderTrainer(config, tiny_pack(), pictures, pictures, RunFolder(run), identity=identity)


@pytest.mark.parametrize("make", [generator_trainer, encoder_trainer])
def test_one_picture_in_so_many_has_the_term(make: Callable[..., Any], tmp_path: Path) -> None:
    identity = load_identity(embedder(tmp_path / "net.onnx"))
    trainer = make(tmp_path / "run", identity, identity_weight=0.5, identity_every=3)
    a, b = smooth(2, 16), smooth(2, 16, seed=1)
    terms, firsts = [], []
    for trainer.step in range(4):
        torch.manual_seed(0)
        terms.append(trainer.identity_loss(a, b))
        firsts.append(trainer.first_identity(2))
    assert firsts == [0, 1, None, 0]
    assert terms[2] == {}
    for step, row in ((0, 0), (1, 1), (3, 0)):
        torch.manual_seed(0)
        expected = 0.5 * 3 / 2 * identity(a[row : row + 1], b[row : row + 1]).sum()
        torch.testing.assert_close(terms[step]["identity"], expected)
    assert -1 <= trainer.measure()["held_out_identity"] <= 1
    assert make(tmp_path / "none", None, identity_weight=0.5).identity_loss(a, b) == {}


@pytest.mark.parametrize("make", [generator_trainer, encoder_trainer])
def test_a_step_follows_the_term(make: Callable[..., Any], tmp_path: Path) -> None:
    identity = load_identity(embedder(tmp_path / "net.onnx"))

    def after_a_step(folder: str, weight: float) -> dict[str, Tensor]:
        torch.manual_seed(0)
        trainer = make(tmp_path / folder, identity, identity_weight=weight)
        losses = trainer.train_step(trainer.pictures.take(torch.arange(2)))
        assert ("identity" in losses) == (weight > 0)
        return {key: value.clone() for key, value in trainer.e.state_dict().items()}

    without, with_it = after_a_step("without", 0.0), after_a_step("with", 5.0)
    assert any(not torch.equal(without[key], with_it[key]) for key in without)


@pytest.mark.parametrize("make", [generator_trainer, encoder_trainer])
def test_a_long_gradient_of_the_encoder_is_shortened(make: Callable[..., Any], tmp_path: Path) -> None:
    def gradient(folder: str, clip: float) -> Tensor:
        torch.manual_seed(0)
        trainer = make(tmp_path / folder, None, encoder_clip=clip)
        trainer.train_step(trainer.pictures.take(torch.arange(2)))
        return torch.cat([each.grad.flatten() for each in trainer.e.parameters()])

    whole, loose, short = gradient("whole", 0.0), gradient("loose", 1e3), gradient("short", 0.01)
    assert float(whole.norm()) > 0.02
    assert torch.equal(whole, loose)
    torch.testing.assert_close(short, whole * 0.01 / whole.norm(), rtol=1e-3, atol=1e-7)


def test_values_out_of_range_are_refused_by_name() -> None:
    for wrong in ({"identity_weight": -1.0}, {"identity_every": 0}, {"encoder_clip": -1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            EncoderTraining(encoder=ENCODER, **wrong)  # type: ignore[arg-type]


# -- a run that begins with a pack ---------------------------------------------------------------------------


def test_a_run_begins_with_the_networks_of_a_pack_and_keeps_its_own_after(tmp_path: Path) -> None:
    pack = tiny_pack(seed=5)
    save_networks(tmp_path / "pack", pack)
    trainer = generator_trainer(tmp_path / "run", None, start_from=tmp_path / "pack", reconstruction_steps=2)
    state = load_networks(tmp_path / "pack", ("generator", "encoder"))
    for network, live, average in (("generator", trainer.g, trainer.g_ema), ("encoder", trainer.e, trainer.e_ema)):
        for key, value in state[network].state_dict().items():
            assert torch.equal(live.state_dict()[key], value)
            assert torch.equal(average.state_dict()[key], value)
    trainer.run(until=1)
    again = generator_trainer(tmp_path / "run", None, start_from=tmp_path / "pack", reconstruction_steps=2)
    kept = tensors_below(read_checkpoint(tmp_path / "run" / CHECKPOINT)[0], "g/")
    assert again.step == 1
    assert all(torch.equal(again.g.state_dict()[key], kept[key]) for key in kept)


def test_a_deeper_encoder_begins_as_that_of_the_pack(tmp_path: Path) -> None:
    pack = tiny_pack(seed=5)
    assert pack.encoder is not None
    save_networks(tmp_path / "pack", pack)
    deeper = dataclasses.replace(ENCODER, blocks_per_size=3)
    trainer = generator_trainer(tmp_path / "run", None, start_from=tmp_path / "pack", encoder=deeper)
    own = EncoderTrainer(
        EncoderTraining(encoder=deeper, batch_size=2), pack, picture_set(), picture_set(), RunFolder(tmp_path / "own")
    )
    image_BCHW = smooth(3, 16)
    expected_BLD = pack.encoder(image_BCHW)
    for encoder in (trainer.e, trainer.e_ema, own.e, own.e_ema):
        assert len(encoder.blocks[0].more) == 2  # type: ignore[arg-type]
        assert torch.equal(encoder(image_BCHW), expected_BLD)
    own.train_step(own.pictures.take(torch.arange(2)))
    assert all(block.unit2.conv.weight.detach().any() for block in own.e.blocks[0].more)  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="cannot begin as"):
        Encoder(ENCODER).take_over(Encoder(deeper))


def test_the_command_takes_the_sizes_from_the_pack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_networks(tmp_path / "pack", tiny_pack())
    archive = noise_archive(tmp_path, np.random.default_rng(0))
    net = embedder(tmp_path / "net.onnx")
    command = [
        "train", "generator", str(archive), "--out", str(tmp_path / "run"), "--start-from", str(tmp_path / "pack"),
        "--identity", str(net), "--held-out", "4", "--batch", "2", "--until", "2", "--precision", "float32",
    ]  # fmt: skip
    assert main(command) == 0
    facts = read_checkpoint(tmp_path / "run" / CHECKPOINT)[1]
    assert facts is not None
    assert facts["config"]["generator"]["w_dim"] == GENERATOR.w_dim
    assert facts["config"]["identity_weight"] == 0.5
    assert "held_out_identity" in capsys.readouterr().out
    assert main([*command, "--grow-from", str(tmp_path / "run")]) == 2
    assert "give one of them" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*command, "--encoder-blocks", "0"])
    assert "--encoder-blocks: it is 0, and must be a whole number of at least 1" in capsys.readouterr().err
    assert main([*command, "--out", str(tmp_path / "deeper"), "--encoder-blocks", "2"]) == 0
    facts = read_checkpoint(tmp_path / "deeper" / CHECKPOINT)[1]
    assert facts is not None
    assert facts["config"]["encoder"]["blocks_per_size"] == 2
    pack = tiny_pack()
    deep = dataclasses.replace(ENCODER, blocks_per_size=3)
    save_pack(tmp_path / "deep", dataclasses.replace(pack.manifest, encoder=deep), generator=pack.generator,
              perceptual=pack.perceptual, encoder=Encoder(deep))  # fmt: skip
    on = ["--out", str(tmp_path / "deepest"), "--start-from", str(tmp_path / "deep")]
    assert main([*command, *on, "--encoder-blocks", "2"]) == 2
    assert "has 3 at each size; give as many, or more" in capsys.readouterr().err
    assert main([*command, *on]) == 0
    capsys.readouterr()
    save_networks(tmp_path / "bare", tiny_pack(has_encoder=False))
    assert main([*command, "--out", str(tmp_path / "other"), "--start-from", str(tmp_path / "bare")]) == 2
    assert "has no encoder" in capsys.readouterr().err
    with pytest.raises(OptionInvalid, match="has no encoder"):
        load_networks(tmp_path / "bare", ("generator", "encoder"))

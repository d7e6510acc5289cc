"""One command for every published file: what it is, is found out; the pack draws what the public networks draw."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from inversion_core.cli import main
from inversion_core.errors import OptionInvalid, PackInvalid
from inversion_core.inverter import InvertConfig, invert
from inversion_core.models.perceptual import VGG16_PLAN
from inversion_core.packs import load_pack, verify_pack
from inversion_core.packs.convert import convert_idinvert
from inversion_core.packs.converting import convert_files
from inversion_core.packs.imagenet import use_imagenet_vgg
from inversion_core.packs.pack import Pack
from tests import stylegan2_files as files
from tests import stylegan2_pickles as pickles
from tests.published import Architecture, layout, recipe

RECIPE = files.TINY


def picture(pack: Pack) -> torch.Tensor:
    return pack.synthesize(pack.generator.map(files.latents(RECIPE), psi=0.7))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    folder = tmp_path_factory.mktemp("expected")
    torch.save({"g_ema": files.nvidia(RECIPE)}, folder / "g.pt")
    convert_files([folder / "g.pt"], folder / "pack")
    return picture(load_pack(folder / "pack"))


def write(kind: str, file: Path) -> Path:
    state = files.nvidia(RECIPE)
    mean, theirs = state["mapping.w_avg"], files.rosinality(state)
    decoder = {f"decoder.{key}": value for key, value in theirs.items()}
    match kind:
        case "rosinality":
            torch.save({"g": files.rosinality(files.nvidia(files.SMALL)), "g_ema": theirs, "latent_avg": mean}, file)
        case "rosinality, training":
            network = torch.nn.Linear(3, 3)
            optimizer = torch.optim.Adam(network.parameters())
            network(torch.ones(1, 3)).sum().backward()
            optimizer.step()
            args = argparse.Namespace(path="faces", size=16, device=torch.device("cpu"), start=np.float64(0.5))
            critic = {"convs.0.0.weight": torch.zeros(2, 3, 1, 1), "final_linear.0.weight": torch.zeros(2, 2)}
            torch.save(
                {"g": files.rosinality(files.nvidia(files.SMALL)), "d": critic, "g_ema": theirs,
                 "g_optim": optimizer.state_dict(), "args": args, "ada_aug_p": 0.1}, file,
            )  # fmt: skip
        case "rosinality, safetensors":
            save_file({key: value.contiguous().clone() for key, value in theirs.items()}, file)
        case "rosinality, older":
            torch.save({"g_ema": theirs, "latent_avg": mean}, file, _use_new_zipfile_serialization=False)
        case "mmgeneration":
            ours = files.mmgeneration(state)
            twice = {f"generator.{key}": 2 * value for key, value in ours.items()}
            averaged = {f"generator_ema.{key}": value for key, value in ours.items()}
            critic = {"discriminator.convs.0.conv.weight": torch.zeros(3)}
            torch.save({"meta": {"iter": 3}, "state_dict": {**twice, **critic, **averaged}}, file)
        case "genforce":
            ours = files.genforce(state)
            torch.save({"generator": {k: 2 * v for k, v in ours.items()}, "generator_smooth": ours}, file)
        case "e4e":
            encoder = {"encoder.input_layer.0.weight": torch.zeros(64, 3, 3, 3)}
            opts = {"stylegan_size": 16, "device": torch.device("cpu"), "exp_dir": Path("runs")}
            torch.save({"state_dict": {**encoder, **decoder}, "latent_avg": mean.repeat(6, 1), "opts": opts}, file)
        case "nvidia" | "nvidia, flat":
            pickles.write_nvidia(file, RECIPE, conv_clamp=None, flat=kind.endswith("flat"))
        case "whole module":
            pickles.write_whole_module(file, RECIPE)
        case "whole module, older":
            pickles.write_whole_module(file, RECIPE, zipped=False)
        case "tensorflow":
            pickles.write_tensorflow(file, RECIPE, fmap_base=128, architecture="skip", resample_kernel=[1, 3, 3, 1])
        case "tensorflow, protocol 2":
            pickles.write_tensorflow(file, RECIPE, protocol=2)
    return file


KINDS = (
    "rosinality, safetensors",
    "rosinality, training",
    "rosinality", "rosinality, older", "genforce", "mmgeneration", "e4e", "nvidia", "nvidia, flat", "whole module",
    "whole module, older", "tensorflow", "tensorflow, protocol 2",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_makes_a_pack_with_the_same_pictures(kind: str, expected: torch.Tensor, tmp_path: Path) -> None:
    file = write(kind, tmp_path / "Some Net.pt")
    said: list[str] = []
    manifest = convert_files([file], tmp_path / "pack", licence="for tests", say=said.append)
    assert not file.with_suffix(".canary").exists()
    assert (manifest.name, manifest.licence, manifest.generator.kind) == ("some-net", "for tests", "stylegan2")
    assert (manifest.num_layers, manifest.z_dim, manifest.w_dim) == (6, 32, 32)
    pack = load_pack(tmp_path / "pack")
    if kind in ("mmgeneration", "rosinality, training", "rosinality, safetensors"):  # which have no mean
        pack.generator.w_avg_D.copy_(files.nvidia(RECIPE)["mapping.w_avg"])
    found = picture(pack)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert "layout" in said[0]
    assert "used" in said[0]
    if kind == "e4e":
        assert any(
            "[state_dict.encoder]: a network of face recognition or another encoder, which is not used" in line
            for line in said
        )


def test_a_generator_alone_says_what_is_missing_when_it_is_asked_for(tmp_path: Path) -> None:
    convert_files([write("rosinality", tmp_path / "g.pt")], tmp_path / "pack")
    pack = load_pack(tmp_path / "pack")
    verify_pack(tmp_path / "pack")
    image_BCHW = pack.synthesize(pack.mean_codes(2))
    assert image_BCHW.shape == (2, 3, 16, 16)
    assert pack.manifest.starts == ("mean", "random")
    with pytest.raises(OptionInvalid, match="no encoder"):
        pack.encode(image_BCHW)
    with pytest.raises(OptionInvalid, match=r"no perceptual network.*use-imagenet-vgg"):
        pack.loss(image_BCHW, image_BCHW)
    assert pack.changed(version="2").synthesize(pack.mean_codes()).shape == (1, 3, 16, 16)


def test_with_a_perceptual_network_it_inverts(tmp_path: Path) -> None:
    convert_files([write("rosinality", tmp_path / "g.pt")], tmp_path / "pack")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = {}
        layer, channels = 0, 3
        for width in VGG16_PLAN:
            if isinstance(width, int):
                weights[f"features.{layer}.weight"] = torch.randn(width, channels, 3, 3) / (3 * channels**0.5)
                weights[f"features.{layer}.bias"] = torch.zeros(width)
                channels = width
            layer += 2 if isinstance(width, int) else 1
    use_imagenet_vgg(tmp_path / "pack", source=lambda: weights)
    torch.save(weights, tmp_path / "vgg16-397923af.pth")
    convert_files([tmp_path / "vgg16-397923af.pth", tmp_path / "g.pt"], tmp_path / "both")
    for folder in ("pack", "both"):
        pack = load_pack(tmp_path / folder)
        target = pack.synthesize(pack.map(torch.full((1, 32), 0.5))).clamp(-1, 1)
        losses = [step.loss_B.item() for step in invert(pack, target, InvertConfig(num_steps=5))]
        assert losses[-1] < losses[0]


def test_the_clamp_of_a_network_of_nvidia_is_kept(tmp_path: Path) -> None:
    convert_files([pickles.write_nvidia(tmp_path / "n.pkl", RECIPE, conv_clamp=2.0)], tmp_path / "pack")
    assert load_pack(tmp_path / "pack").manifest.generator.conv_clamp == 2.0  # type: ignore[attr-defined]


def test_a_class_of_somebody_elses_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pickles.CLASSES, "torgb", "MyToRGB")
    said: list[str] = []
    convert_files([pickles.write_nvidia(tmp_path / "n.pkl", RECIPE)], tmp_path / "pack", say=said.append)
    assert any("modules of MyToRGB" in line for line in said)


@pytest.mark.parametrize(("layers", "flat"), [(2, False), (8, True)])
def test_nvidias_deep_and_shallow_mappings(layers: int, flat: bool, tmp_path: Path) -> None:
    recipe = files.Recipe(32, 8, 256, 32, layers)
    convert_files([pickles.write_nvidia(tmp_path / "n.pkl", recipe, flat=flat)], tmp_path / "pack")
    assert load_pack(tmp_path / "pack").manifest.generator.mapping_layers == layers  # type: ignore[attr-defined]


TENSORFLOW_FAULTS = {
    "StyleGAN 1": ({"version": 3}, "version 3.*not supported.*Take a StyleGAN2"),
    "unknown": ({"own_trick": 1}, "'own_trick', which is unknown"),
    "resnet": ({"architecture": "resnet"}, "architecture 'resnet'"),
    "filter": ({"resample_kernel": [1, 2, 1]}, "resample_kernel"),
}


@pytest.mark.parametrize(("settings", "words"), TENSORFLOW_FAULTS.values(), ids=list(TENSORFLOW_FAULTS))
def test_other_networks_of_tensorflow_are_refused(settings: dict[str, object], words: str, tmp_path: Path) -> None:
    with pytest.raises(PackInvalid, match=words):
        convert_files([pickles.write_tensorflow(tmp_path / "t.pkl", RECIPE, **settings)], tmp_path / "pack")  # type: ignore[arg-type]
    assert not (tmp_path / "pack").exists()


REFUSED = {
    "StyleGAN3": ({"synthesis.input.freqs": 1, "synthesis.L0_36_512.weight": 1}, "StyleGAN3.*not supported yet"),
    "AdaIN": ({"synthesis.initial_conv1.conv.weight": 1, "mapping.mapping.0.weight": 1}, "AdaIN.*not supported"),
    "face recognition": ({"input_layer.0.weight": 1, "output_layer.0.weight": 1}, "holds no generator"),
    "anything": ({"a.weight": 1, "b.weight": 1}, "holds no generator"),
}


@pytest.mark.parametrize(("keys", "words"), REFUSED.values(), ids=list(REFUSED))
def test_what_is_no_generator_is_refused_by_name(keys: dict[str, int], words: str, tmp_path: Path) -> None:
    tensors = {key: torch.zeros(3, size) for key, size in keys.items()}
    torch.save(tensors, tmp_path / "x.pt")
    save_file(tensors, tmp_path / "x.safetensors")
    for file in ("x.pt", "x.safetensors"):
        with pytest.raises(PackInvalid, match=words):
            convert_files([tmp_path / file], tmp_path / "pack")


def test_the_command_says_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write("nvidia", tmp_path / "net.pkl")
    assert main(["pack", "convert", str(file), "--out", str(tmp_path / "pack"), "--name", "mine"]) == 0
    told = capsys.readouterr()
    assert "mine, 16 px, codes 6x32" in told.out
    assert "net.pkl [G_ema]: NVIDIA's PyTorch layout" in told.err
    assert "net.pkl [G]: NVIDIA's PyTorch layout" in told.err
    assert "use-imagenet-vgg" in told.err


def test_idinvert_files_in_any_order(tmp_path: Path) -> None:
    arch = Architecture(channels=(4, 4, 4))
    shapes = layout(arch)
    paths = []
    for name in ("vgg16", "encoder", "generator"):
        torch.save(recipe(name, shapes[name]), tmp_path / f"{name}.pth")
        paths.append(tmp_path / f"{name}.pth")
    manifest = convert_files(paths, tmp_path / "pack")
    convert_idinvert(paths[2], paths[0], tmp_path / "as before", encoder_file=paths[1])
    assert manifest.generator.kind == "stylegan1"
    new, old = load_pack(tmp_path / "pack"), load_pack(tmp_path / "as before")
    assert (new.manifest.files, new.manifest.encoder) == (old.manifest.files, old.manifest.encoder)

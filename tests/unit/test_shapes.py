"""Networks built for the shapes of their weights alone: the right ones, and no compiler is imported for it."""

from __future__ import annotations

import dataclasses
import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from inversion_core.models import DiscriminatorFeatures, Encoder, StyleGANGenerator, VGG16Features
from inversion_core.optimizers.designs import DESIGNS
from inversion_core.packs import Variant, put_learned
from inversion_core.packs.imagenet import MEAN_BGR
from inversion_core.packs.networks import expected_tensors
from tests.tiny import DISCRIMINATOR, ENCODER, GENERATOR, save_networks, tiny_pack

pytestmark = pytest.mark.unit
NETWORKS: dict[str, Callable[[], torch.nn.Module]] = {
    "generator": lambda: StyleGANGenerator(GENERATOR),
    "published generator": lambda: StyleGANGenerator(
        dataclasses.replace(GENERATOR, w_per_layer=True, fused_from=16, final_tanh=False)
    ),
    "encoder": lambda: Encoder(ENCODER),
    "encoder with batch norm": lambda: Encoder(dataclasses.replace(ENCODER, batch_norm=True)),
    "discriminator": lambda: DiscriminatorFeatures(DISCRIMINATOR, until=8),
    "vgg16": lambda: VGG16Features(mean_bgr=MEAN_BGR),
    **{name: functools.partial(design.build, {}, num_layers=6, w_dim=12) for name, design in DESIGNS.items()},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_expected_shapes_are_those_of_the_network(name: str) -> None:
    found = expected_tensors(NETWORKS[name])
    assert found == {key: value.shape for key, value in NETWORKS[name]().state_dict().items()}
    assert torch.empty(1).device.type == "cpu"


def test_a_process_that_loads_packs_imports_no_compiler(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    save_networks(folder, tiny_pack())
    for name, design in DESIGNS.items():
        config = design.config(num_layers=6, w_dim=12)
        settings = {key: getattr(config, key) for key in design.setting_types}
        put_learned(folder, Variant(name, "encoder"), settings, design.network(config))
    program = """
import sys
from inversion_core.models import VGG16Features
from inversion_core.packs import load_pack
from inversion_core.packs.networks import expected_tensors
load_pack(sys.argv[1])
expected_tensors(lambda: VGG16Features(mean_bgr=[0.0, 0.0, 0.0]))
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program, str(folder)], check=False).returncode == 0

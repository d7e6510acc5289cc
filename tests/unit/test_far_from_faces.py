"""The shipped packs' learned optimizers on pictures that are no upright faces: never worse than the pack's Adam."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from inversion_core import InvertConfig, invert
from inversion_core.inverter import BestSteps
from inversion_core.packs import Pack, load_pack

pytestmark = pytest.mark.unit
STEPS = 30
WORSE = 1.05
"""What chance may do to thirty steps."""


def landscape(side_px: int) -> Tensor:
    """Sky over hills over a meadow, (3, H, W) in [-1, 1]."""
    y_H1, x_1W = torch.linspace(0, 1, side_px)[:, None], torch.linspace(0, 1, side_px)[None]
    sky_3HW = torch.stack([0.2 + 0.5 * y_H1, 0.5 + 0.3 * y_H1, 0.9 - 0.1 * y_H1]).expand(3, side_px, side_px)
    is_hill_HW = y_H1 > 0.55 + 0.1 * torch.sin(9 * x_1W) * torch.cos(4 * x_1W)
    is_meadow_HW = (y_H1 > 0.8).expand_as(is_hill_HW)
    hill_311, meadow_311 = torch.tensor([0.15, 0.3, 0.35]).view(3, 1, 1), torch.tensor([0.3, 0.6, 0.1]).view(3, 1, 1)
    return 2 * torch.where(is_meadow_HW, meadow_311, torch.where(is_hill_HW, hill_311, sky_3HW)) - 1


def far_pictures(pack: Pack) -> Tensor:
    """Noise, a landscape, a face upside down: (3, 3, H, W)."""
    generator = torch.Generator().manual_seed(0)
    noise_CHW = torch.rand(3, pack.resolution, pack.resolution, generator=generator) * 2 - 1
    with torch.no_grad():
        face_BCHW = pack.synthesize(pack.map(torch.randn(1, pack.z_dim, generator=generator)))
    return torch.stack([noise_CHW, landscape(pack.resolution), face_BCHW[0].flip(1)])


def lowest(pack: Pack, target_BCHW: Tensor, name: str) -> list[float]:
    """The lowest loss so far at every tenth step, flat: pictures in turn."""
    best, found = BestSteps(), []
    for step in invert(pack, target_BCHW, InvertConfig(num_steps=STEPS, detail_steps=0, optimizer=name)):
        best.update(step)
        if step.index and step.index % 10 == 0:
            found += best.loss_B.tolist()
    return found


@pytest.mark.parametrize(
    ("pack_name", "names"),
    [
        ("faces-64-comparison", ("learned-basis", "learned-residual", "learned-lbfgs")),
        ("faces-128-comparison", ("learned-basis", "learned-residual", "learned-lbfgs")),
    ],
)
def test_far_from_faces_none_is_worse_than_adam(pack_name: str, names: tuple[str, ...]) -> None:
    pack = load_pack(pack_name)
    target_BCHW = far_pictures(pack)
    adam = lowest(pack, target_BCHW, "adam")
    assert max(adam) > 0.02  # these are hard
    assert pack.manifest.default_optimizer in names
    for name in names:
        ours = lowest(pack, target_BCHW, name)
        assert all(mine <= WORSE * its for mine, its in zip(ours, adam, strict=True)), (name, ours, adam)
        assert all(a >= b >= c for a, b, c in zip(ours[:3], ours[3:6], ours[6:], strict=True))

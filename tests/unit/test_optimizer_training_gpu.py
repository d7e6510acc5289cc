"""Training of learned optimizers on a CUDA device, and their way into a pack."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from inversion_core.cli import main
from inversion_core.optimizers.designs import DESIGNS
from inversion_core.packs import verify_pack
from tests.tiny import noise_archive, rough_pack, save_networks

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.mark.parametrize("design", sorted(DESIGNS))
def test_a_design_is_trained_and_goes_into_a_pack(tmp_path: Path, design: str) -> None:
    save_networks(tmp_path / "pack", rough_pack())
    archive = noise_archive(tmp_path, np.random.default_rng(0))
    command = [
        "train", "optimizer", str(tmp_path / "pack"), "--design", design, "--data", str(archive), "--out",
        str(tmp_path / "run"), "--batch", "2", "--iterations", "4", "--unroll", "2", "--max-pictures", "4", "--real",
        "2", "--held-out", "4", "--device", "cuda",
    ]  # fmt: skip
    assert main(command) == 0
    assert main(["pack", "add-optimizer", str(tmp_path / "pack"), str(tmp_path / "run")]) == 0
    verify_pack(tmp_path / "pack")

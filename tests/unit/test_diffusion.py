"""Semantic diffusion: a face in another context."""

from __future__ import annotations

import pytest
import torch

from inversion_core import InvertConfig, OptionInvalid, invert
from inversion_core.editing.diffusion import FACE, IDINVERT_FACE, Diffusion, diffuse
from inversion_core.editing.masks import draw
from inversion_core.editing.shapes import Mask
from tests.tiny import tiny_pack, tiny_targets

pytestmark = pytest.mark.unit

PACK = tiny_pack()
FACES, CONTEXTS = tiny_targets(2, seed=1), tiny_targets(2, seed=2)
CONFIG = InvertConfig(num_steps=3, optimizer="adam")


def test_with_context_0_it_is_idinverts() -> None:
    steps = list(diffuse(PACK, FACES, CONTEXTS, CONFIG, Diffusion(mask=IDINVERT_FACE, context=0)))
    mask_HW = draw(IDINVERT_FACE, 16)
    assert set(mask_HW.unique().tolist()) >= {0.0, 1.0}
    mix = CONTEXTS + mask_HW * (FACES - CONTEXTS)
    expected = list(invert(PACK, mix, CONFIG, mask_B1HW=mask_HW[None, None]))
    assert torch.equal(steps[0].w_BLD, PACK.encode(mix))
    assert [step.loss_B.tolist() for step in steps] == [step.loss_B.tolist() for step in expected]


def test_idinverts_square_is_that_of_its_public_code() -> None:
    mask_HW = draw(IDINVERT_FACE, 256)
    expected_HW = torch.zeros(256, 256)
    expected_HW[90:200, 70:180] = 1
    assert torch.equal(mask_HW, expected_HW)


@pytest.mark.parametrize("context", [0.0, 0.5, 1.0])
def test_what_counts_is_face_and_far_context(context: float) -> None:
    changed = CONTEXTS.clone()
    changed[..., :2] = 0  # far from the face
    losses = [
        next(diffuse(PACK, FACES, each, InvertConfig(start="mean"), Diffusion(context=context))).loss_B
        for each in (CONTEXTS, changed)
    ]
    assert torch.equal(*losses) == (context == 0)


def test_one_context_serves_all_faces() -> None:
    both = next(diffuse(PACK, FACES, CONTEXTS[:1], CONFIG))
    second = next(diffuse(PACK, FACES[1:], CONTEXTS[:1], CONFIG))
    torch.testing.assert_close(both.loss_B[1:], second.loss_B)


def test_the_loss_falls() -> None:
    first, *_, last = diffuse(PACK, FACES, CONTEXTS, InvertConfig(num_steps=20, optimizer="adam", learning_rate=0.05))
    assert (last.loss_B < first.loss_B).all()
    assert FACE.feather > 0


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(OptionInvalid, match="the mask covers no pixel"):
        diffuse(PACK, FACES, CONTEXTS, CONFIG, Diffusion(mask=Mask(shape="box", numbers=(1.5, 1.5, 2.0, 2.0))))
    with pytest.raises(OptionInvalid, match="context is 2"):
        Diffusion(context=2)
    with pytest.raises(OptionInvalid, match="ring is -1"):
        Diffusion(ring=-1)
    with pytest.raises(ValueError, match="2 faces and 3 contexts"):
        diffuse(PACK, FACES, tiny_targets(3), CONFIG)

"""Applying an edit list to a latent (docs/editing.md).

Suffixes: B image, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from inversion_core.editing.codes import Code
from inversion_core.editing.domain import code_of_seed
from inversion_core.editing.edits import Edit
from inversion_core.editing.follow import follow, gathered
from inversion_core.editing.kinds.base import Scene, Sources
from inversion_core.editing.local import blended
from inversion_core.errors import OptionInvalid
from inversion_core.latents import Latent, as_latent
from inversion_core.packs import Pack
from inversion_core.packs.directions import Direction

Resolve = Callable[[Code], Latent]
"""A code as a latent of one image. Raises OptionInvalid where there is no such code."""


@torch.no_grad()
def apply_edits(
    pack: Pack, latent: Latent | Tensor, edits: Sequence[Edit], resolve: Resolve | None = None, *,
    directions: Mapping[str, Direction] | None = None, before_BCHW: Tensor | None = None,
) -> Latent:  # fmt: skip
    """The latent after the edits, in their order. Deterministic; the input stays as it is.

    A list that changes nothing returns the latent itself. Detail follows once, after the whole list. Edits with a mask
    change features within the mask alone, those without it change codes; so a result of edits with masks has detail at
    the pack's full resolution.

    Args:
        latent: of any number of images; all get the same edits.
        resolve: looks up the codes that edits name (default: `own_codes`).
        directions: instead of the pack's.
        before_BCHW: pictures of the latent's codes without detail, where they are known: saves a render, as for a
            slider that edits one face again and again.
    Raises:
        OptionInvalid: the pack has no such direction or layer, or a code cannot be had.
        ValueError: the latent is not of this pack.
    """
    latent = as_latent(latent)
    ways = pack.directions if directions is None else directions
    scene = Scene(pack=pack, directions=ways, resolve=resolve or own_codes(pack))
    for index, edit in enumerate(edits):
        edit.check(scene, f"edits[{index}]")
    edits = [edit for edit in edits if not edit.is_neutral]
    if not edits:
        return latent
    latent = pack.check_latent(latent)
    everywhere = _through(scene, latent, before_BCHW, [edit for edit in edits if edit.mask is None])
    masks = list(dict.fromkeys(edit.mask for edit in edits if edit.mask is not None))
    within = [
        _through(scene, latent, before_BCHW, [edit for edit in edits if edit.mask in (None, mask)]) for mask in masks
    ]
    return blended(pack, everywhere, list(zip(masks, within, strict=True)))


def _through(scene: Scene, latent: Latent, before_BCHW: Tensor | None, edits: Sequence[Edit]) -> Latent:
    """The latent after edits of codes."""
    w_BLD = latent.w_BLD
    sources: Sources = [(latent, 1.0)]
    for edit in edits:
        w_BLD, sources = edit.apply(scene, w_BLD), edit.sources(scene, sources)
    if len(sources) == 1:
        return follow(scene.pack, latent, w_BLD, before_BCHW=before_BCHW)
    return gathered(scene.pack, sources, w_BLD)


def own_codes(pack: Pack, inversions: Callable[[str], Latent] | None = None) -> Resolve:
    """Looks up the codes that a pack can make itself: seeds and latents.

    Args:
        inversions: looks up ids; None: an edit that names one is refused.
    """

    def resolve(code: Code) -> Latent:
        if code.seed is not None:
            return Latent(w_BLD=code_of_seed(pack, code.seed))
        if code.latents is not None:
            return _given(pack, code.latents)
        assert code.inversion is not None
        if inversions is None:
            raise OptionInvalid(
                f"inversion {code.inversion!r} cannot be looked up here; give the code itself, as latents"
            )
        return inversions(code.inversion)

    return resolve


def _given(pack: Pack, rows: Sequence[Sequence[float]]) -> Latent:
    w_LD = torch.tensor(rows, dtype=torch.float32)
    try:
        return Latent(w_BLD=pack.check_codes(w_LD[None]))
    except ValueError as error:
        raise OptionInvalid(f"latents are {tuple(w_LD.shape)}: {error}. Give a code of this pack") from error

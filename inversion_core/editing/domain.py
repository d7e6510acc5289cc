"""Where the codes of photos lie, which is where edits work.

An encoder's codes, and all that an inversion makes of them, lie in another part of W+ than what the mapping network
gives: in faces-128 five times as far from w_avg, about a mean of their own. Directions, mixes and truncation that are
made for the one tear the other. So an edit takes a random face as the encoder sees it.

Suffixes: B image, N sample, Z latent z, L style layer, D latent w.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from inversion_core.packs import Pack

CENTRE_FACES = 32
"""Random faces whose mean is the centre."""
BATCH = 16

_centres: WeakKeyDictionary[Pack, Tensor] = WeakKeyDictionary()


@torch.no_grad()
def code_of_seed(pack: Pack, seed: int) -> Tensor:
    """The code (1, L, D) of a random face: of z with this seed, through the encoder where the pack has one."""
    draw = torch.Generator().manual_seed(seed)
    return _in_domain(pack, torch.randn(1, pack.z_dim, generator=draw))


@torch.no_grad()
def random_codes(pack: Pack, count: int, seed: int = 0) -> Tensor:
    """Codes (N, L, D) of random faces, on the CPU; always the same ones."""
    z_NZ = torch.randn(count, pack.z_dim, generator=torch.Generator().manual_seed(seed))
    return torch.cat([_in_domain(pack, z_BZ).cpu() for z_BZ in z_NZ.split(BATCH)])


def centre(pack: Pack) -> Tensor:
    """The mean code (1, L, D), computed once for each pack; w_avg where there is no encoder."""
    found = _centres.get(pack)
    if found is None:
        with torch.inference_mode(False):  # the result is kept, and a gradient may be asked for later
            codes_NLD = random_codes(pack, CENTRE_FACES) if pack.has_encoder else pack.mean_codes()
            found = _centres[pack] = codes_NLD.mean(0, keepdim=True).to(pack.device)
    return found


def _in_domain(pack: Pack, z_BZ: Tensor) -> Tensor:
    w_BLD = pack.map(z_BZ.to(pack.device))
    return pack.encode(pack.synthesize(w_BLD).clamp(-1, 1)) if pack.has_encoder else w_BLD

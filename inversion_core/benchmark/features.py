"""Features on which sets of pictures are compared, by the name that a distance on them bears (`kid_squeeze`).

Suffixes: B image, C channel, H W height and width, F feature.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch import Tensor

from inversion_core.models.lpips import LPIPSSqueeze
from inversion_core.training.identity import IdentityDistance

Embed = Callable[[Tensor], Tensor]
"""Pictures (B, 3, H, W) in [-1, 1] to features (B, F), each vector of root mean square 1: what `kid` expects."""
SQUEEZE, IDENTITY = "squeeze", "identity"
ABOUT = {
    SQUEEZE: "squeezenet1_1, last layer, mean over the picture, root mean square 1",
    IDENTITY: "embeddings of the face recognition network that was given, root mean square 1",
}


def embedders(lpips: LPIPSSqueeze | None, identity: IdentityDistance | None) -> Mapping[str, Embed]:
    """Those of the networks that there are. A generator that was trained against one of them looks better by it."""
    found: dict[str, Embed] = {}
    if lpips is not None:
        found[SQUEEZE] = lpips.embed
    if identity is not None:
        found[IDENTITY] = lambda image_BCHW: _scaled(identity.embed(image_BCHW))
    return found


def _scaled(unit_BF: Tensor) -> Tensor:
    return unit_BF * math.sqrt(unit_BF.shape[1])

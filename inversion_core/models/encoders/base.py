"""What every encoder can do, whatever its architecture.

Suffixes: B image, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from torch import Tensor, nn

from inversion_core.models.generators import Generator


class EncoderArchitecture(Protocol):
    """An encoder's configuration: a frozen dataclass, which pack.json holds field by field."""

    kind: ClassVar[str]
    """Its name in pack.json."""

    @property
    def resolution(self) -> int:
        """Side of the pictures that it takes, which is the generator's."""

    @property
    def num_layers(self) -> int: ...

    @property
    def w_dim(self) -> int: ...


class PictureEncoder(nn.Module):
    """E: picture (B, 3, H, W) in [-1, 1] to W+ code (B, L, D)."""

    config: EncoderArchitecture

    def encode(self, image_BCHW: Tensor, generator: Generator) -> Tensor:
        """The codes; some encoders look at what the generator makes of them, and correct them."""
        w_BLD: Tensor = self(image_BCHW)
        return w_BLD

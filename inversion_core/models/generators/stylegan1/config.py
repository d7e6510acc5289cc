"""The architecture of a StyleGAN generator (Karras 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from inversion_core.models.layers import resolutions


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """Architecture of a StyleGAN generator; the defaults are IDInvert's at 256 px."""

    kind: ClassVar[str] = "stylegan1"

    resolution: int = 256
    """Side of the picture in pixels, a power of two from 8 to 1024."""
    channels: tuple[int, ...] = (512, 512, 512, 512, 256, 128, 64)
    """Channels at 4, 8, ... up to `resolution` pixels."""
    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 8
    mapping_dim: int = 512
    """Width of the hidden layers of the mapping network."""
    w_per_layer: bool = False
    """True: the mapping network gives each style layer a w of its own (IDInvert); false: one for all (Karras 2019)."""
    final_tanh: bool = False
    fused_from: int = 128
    """Smallest resolution whose up-sampling is one transposed convolution; below, nearest and then a convolution."""
    truncation_psi: float = 0.7
    truncation_layers: int = 8
    """Style layers, from the coarsest, that truncation draws towards w_avg."""

    def __post_init__(self) -> None:
        sizes = resolutions(self.resolution)
        if len(self.channels) != len(sizes):
            raise ValueError(
                f"channels has {len(self.channels)} entries; {self.resolution} px needs {len(sizes)}, for {sizes}"
            )
        if min(*self.channels, self.z_dim, self.w_dim, self.mapping_dim, self.mapping_layers) < 1:
            raise ValueError("channels, z_dim, w_dim, mapping_dim and mapping_layers must be at least 1")

    @property
    def num_layers(self) -> int:
        """Number L of style layers."""
        return 2 * len(self.channels)

    @property
    def layer_px(self) -> tuple[int, ...]:
        """Two style layers at each resolution."""
        return tuple(px for px in resolutions(self.resolution) for _ in range(2))

    def detail_at(self, px: int) -> tuple[int, int]:
        """The second layer of that size, and its channels."""
        block = px.bit_length() - 3
        return 2 * block + 1, self.channels[block]

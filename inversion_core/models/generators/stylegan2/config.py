"""The architecture of a StyleGAN2 generator (Karras 2020, "Analyzing and improving the image quality of StyleGAN")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from inversion_core.models.layers import resolutions


@dataclass(frozen=True, kw_only=True)
class StyleGAN2Config:
    """Architecture of a StyleGAN2 generator; the defaults are config-f's at 1024 px."""

    kind: ClassVar[str] = "stylegan2"

    resolution: int = 1024
    """Side of the picture in pixels, a power of two from 8 to 1024."""
    channels: tuple[int, ...] = (512, 512, 512, 512, 512, 256, 128, 64, 32)
    """Channels at 4, 8, ... up to `resolution` pixels."""
    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 8
    mapping_dim: int = 512
    """Width of the hidden layers of the mapping network."""
    labels: int = 0
    """Classes that the generator was trained with; 0: it knows none."""
    embed_dim: int = 0
    """Width of a class's embedding, which is put beside z."""
    label: int = 0
    """The class that is drawn."""
    conv_clamp: float = 0.0
    """Largest absolute value after a layer (256 in networks trained in float16); 0: no limit."""
    truncation_psi: float = 0.7
    truncation_layers: int = 18
    """Style layers, from the coarsest, that truncation draws towards w_avg."""

    def __post_init__(self) -> None:
        sizes = resolutions(self.resolution)
        if len(self.channels) != len(sizes):
            raise ValueError(
                f"channels has {len(self.channels)} entries; {self.resolution} px needs {len(sizes)}, for {sizes}"
            )
        if min(*self.channels, self.z_dim, self.w_dim, self.mapping_dim, self.mapping_layers) < 1:
            raise ValueError("channels, z_dim, w_dim, mapping_dim and mapping_layers must be at least 1")
        if (self.labels > 0) != (self.embed_dim > 0):
            raise ValueError(f"embed_dim is {self.embed_dim} with {self.labels} labels; both are 0, or neither")
        if not 0 <= self.label < max(self.labels, 1):
            raise ValueError(f"label is {self.label}; the generator knows the classes 0 to {max(self.labels, 1) - 1}")
        if self.conv_clamp < 0:
            raise ValueError(f"conv_clamp is {self.conv_clamp}; it must be 0 or more")

    @property
    def num_layers(self) -> int:
        """Number L of style layers."""
        return 2 * len(self.channels)

    @property
    def layer_px(self) -> tuple[int, ...]:
        """The first one is at 4 px; then two at each resolution; the last one turns features into the picture."""
        sizes = resolutions(self.resolution)
        return (4, *(px for px in sizes[1:] for _ in range(2)), self.resolution)

    def detail_at(self, px: int) -> tuple[int, int]:
        """The second convolution of that size, before features become a picture; at full resolution the picture."""
        if px == self.resolution:
            return self.num_layers - 1, 3
        block = px.bit_length() - 3
        return 2 * block, self.channels[block]

"""What every generator can do, whatever its architecture; nothing outside of `generators/` asks which one it is.

Suffixes: B image, Z latent z, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

from typing import ClassVar, Protocol, Self

from torch import Tensor, nn


class Architecture(Protocol):
    """A generator's configuration: a frozen dataclass, which pack.json holds field by field."""

    kind: ClassVar[str]
    """Its name in pack.json."""

    @property
    def resolution(self) -> int: ...

    @property
    def z_dim(self) -> int: ...

    @property
    def w_dim(self) -> int: ...

    @property
    def num_layers(self) -> int:
        """Number L of style layers: the rows of a W+ code."""

    @property
    def layer_px(self) -> tuple[int, ...]:
        """Each style layer's resolution in pixels."""

    def detail_at(self, px: int) -> tuple[int, int]:
        """The style layer after which detail of `px` pixels is added, and the channels of detail there.

        `px` is one of `layer_px`.
        """


class Synthesis(nn.Module):
    """W+ to picture. Differentiable; `fold` makes it fast once it is frozen."""

    folded_styles: nn.ModuleList
    """Style transforms of a folded network. They take codes, so they stay float32 where all else is rounded."""

    def __init__(self) -> None:
        super().__init__()
        self.folded_styles = nn.ModuleList()

    def fold(self) -> None:
        """Compute once what a frozen network need not compute again; later changes of the weights go unseen."""

    def forward(self, w_BLD: Tensor, *, random_noise: bool = False) -> Tensor:
        """Render W+ codes (B, L, D) to RGB pictures (B, 3, H, W), nominally in [-1, 1].

        `random_noise` draws the noise anew for each image, for training; else the pack's own noise is used.
        """
        raise NotImplementedError

    def features(
        self, w_BLD: Tensor, *, x_BCHW: Tensor | None = None, start: int = 0, stop: int | None = None,
        random_noise: bool = False,
    ) -> Tensor:  # fmt: skip
        """What the style layers from `start` up to `stop` make; by default all, which `rgb` makes a picture of.

        `x_BCHW` is what `features` returned with `stop=start`; `start` may be the number of layers. It has the size of
        its layer, and may have more channels than the detail that can be added to it (`with_detail`).
        """
        raise NotImplementedError

    def with_detail(self, x_BCHW: Tensor, detail_BCHW: Tensor) -> Tensor:
        """Features with detail added."""
        return x_BCHW + detail_BCHW

    def rgb(self, x_BCHW: Tensor) -> Tensor:
        """Features of all layers to pictures (B, 3, H, W)."""
        raise NotImplementedError

    def style_weights(self) -> list[Tensor]:
        """Of each style layer the weights (S, D) that make its S style channels of its w."""
        raise NotImplementedError


class Generator(nn.Module):
    """Mapping, truncation and synthesis together."""

    config: Architecture
    synthesis: Synthesis

    def map(self, z_BZ: Tensor, *, psi: float | None = None, cutoff: int | None = None) -> Tensor:
        """z (B, Z), any norm, to truncated W+ codes (B, L, D).

        `psi` replaces the pack's own in all layers; with `cutoff` so many layers alone, from the coarsest.
        """
        raise NotImplementedError

    @property
    def w_avg_D(self) -> Tensor:
        """The mean w."""
        raise NotImplementedError

    def freeze(self) -> Self:
        """Stop all training of these weights and fold what is constant; returns itself."""
        self.requires_grad_(False).eval()
        self.synthesis.fold()
        return self

    def forward(self, z_BZ: Tensor) -> Tensor:
        """z (B, Z) to pictures (B, 3, H, W)."""
        image_BCHW: Tensor = self.synthesis(self.map(z_BZ))
        return image_BCHW

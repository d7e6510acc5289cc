"""Latents: what an inversion finds. A code in W+ and, where asked for, detail.

Detail is a residual on the output of one style layer (F/W+ space; Kang 2021, "GAN inversion for out-of-range images";
docs/math.md, equation 10). W+ alone says what kind of face it is; detail holds what no code can say.

Suffixes: B image, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from inversion_core.models import Architecture, Generator


@dataclass(frozen=True, kw_only=True, eq=False)
class Latent:
    """Codes of a batch of images, batch first. Pure data: a pack checks and synthesizes it."""

    w_BLD: Tensor
    detail_BCHW: Tensor | None = None
    """What is added to the features of H pixels, after the layer that the generator names; None: nothing."""

    def __len__(self) -> int:
        return len(self.w_BLD)

    @property
    def free(self) -> Tensor:
        """The part that an optimizer moves, (B, ...): detail where there is any, else w."""
        return self.w_BLD if self.detail_BCHW is None else self.detail_BCHW

    def with_free(self, free: Tensor) -> Latent:
        """The same latent with another free part."""
        return replace(self, w_BLD=free) if self.detail_BCHW is None else replace(self, detail_BCHW=free)

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Latent:
        """With `change` made to each tensor, such as `torch.clone`."""
        detail_BCHW = None if self.detail_BCHW is None else change(self.detail_BCHW)
        return Latent(w_BLD=change(self.w_BLD), detail_BCHW=detail_BCHW)

    def rows(self, first: int, end: int) -> Latent:
        """The images from `first` up to `end`, without a copy."""
        return self.mapped(lambda rows_B: rows_B[first:end])

    def tensors(self) -> dict[str, Tensor]:
        """The tensors that there are, by name, in one order."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def to_bytes(self) -> bytes:
        """One image's latent as safetensors: `w_plus` (L, D) float32 and, with detail, `detail` (C, H, W) float16.

        Raises:
            ValueError: it is a batch of more or less than one image.
        """
        if len(self) != 1:
            raise ValueError(f"the latent has {len(self)} images; a file holds one")
        tensors = {"w_plus": self.w_BLD[0].detach().float()}
        if self.detail_BCHW is not None:
            tensors["detail"] = self.detail_BCHW[0].detach().half()
        return save_tensors({name: value.cpu().contiguous().clone() for name, value in tensors.items()})

    @classmethod
    def from_bytes(cls, data: bytes) -> Latent:
        """What `to_bytes` wrote, float32, a batch of one. Other tensors in the file are ignored.

        Raises:
            SafetensorError, KeyError, ValueError: the bytes are no latent.
        """
        tensors = load_tensors(data)
        detail = tensors.get("detail")
        w_LD = tensors["w_plus"]
        if w_LD.ndim != 2 or (detail is not None and detail.ndim != 3):
            shapes = json.dumps({name: list(value.shape) for name, value in tensors.items()})
            raise ValueError(f"w_plus must be (L, D) and detail (C, H, W); the file has {shapes}")
        return cls(w_BLD=w_LD[None].float(), detail_BCHW=None if detail is None else detail[None].float())


def as_latent(code: Latent | Tensor) -> Latent:
    """A latent of plain W+ codes (B, L, D); a latent is returned as it is."""
    return code if isinstance(code, Latent) else Latent(w_BLD=code)


def joined(latents: Sequence[Latent]) -> Latent:
    """One batch of several; all with detail of one shape, or all without.

    Raises:
        ValueError: some have detail, and others do not.
    """
    if len(latents) == 1:
        return latents[0]
    details = [latent.detail_BCHW for latent in latents if latent.detail_BCHW is not None]
    if details and len(details) != len(latents):
        raise ValueError("some latents have detail and others do not; they cannot be one batch")
    w_BLD = torch.cat([latent.w_BLD for latent in latents])
    return Latent(w_BLD=w_BLD, detail_BCHW=torch.cat(details) if details else None)


def detail_shape(config: Architecture, px: int) -> tuple[int, int, int]:
    """Shape (C, H, W) of detail at `px` pixels.

    Raises:
        ValueError: the generator has no layer of that size.
    """
    return config.detail_at(_checked(config, px))[1], px, px


def detail_layer(config: Architecture, px: int) -> int:
    """Index of the style layer after which detail of `px` pixels is added; ValueError as `detail_shape`."""
    return config.detail_at(_checked(config, px))[0]


def _checked(config: Architecture, px: int) -> int:
    sizes = list(dict.fromkeys(config.layer_px))
    if px not in sizes:
        raise ValueError(f"detail at {px} px is impossible; this generator has {', '.join(map(str, sizes))}")
    return px


_remembered = threading.local()
MOST_REMEMBERED = 4


@contextmanager
def remembering() -> Iterator[None]:
    """Within it, this thread finds `base_features` of the same codes once: an edit with detail needs them twice.

    Not where gradients flow.
    """
    before = getattr(_remembered, "found", None)
    _remembered.found = deque(maxlen=MOST_REMEMBERED)
    try:
        yield
    finally:
        _remembered.found = before


def base_features(generator: Generator, w_BLD: Tensor, px: int) -> Tensor:
    """The features (B, C, px, px) to which detail is added."""
    found = getattr(_remembered, "found", None)
    for of, at_px, code_BLD, known_BCHW in found or ():
        if of is generator and at_px == px and torch.equal(code_BLD, w_BLD):
            remembered_BCHW: Tensor = known_BCHW
            return remembered_BCHW
    base_BCHW = generator.synthesis.features(w_BLD, stop=detail_layer(generator.config, px) + 1)
    if found is not None:
        found.append((generator, px, w_BLD, base_BCHW))
    return base_BCHW


def plain_pictures(generator: Generator, w_BLD: Tensor, px: int) -> Tensor:
    """`synthesize` of codes alone, to the same bits, by way of their `base_features` at `px`."""
    synthesis, layer = generator.synthesis, detail_layer(generator.config, px)
    return synthesis.rgb(synthesis.features(w_BLD, x_BCHW=base_features(generator, w_BLD, px), start=layer + 1))


def last_features(generator: Generator, latent: Latent, base_BCHW: Tensor | None = None) -> Tensor:
    """What the picture is made of, pixel by pixel: the output (B, C, H, W) of the last style layer.

    Args:
        base_BCHW: as `synthesize`.
    """
    synthesis = generator.synthesis
    if latent.detail_BCHW is None:
        return synthesis.features(latent.w_BLD)
    px = latent.detail_BCHW.shape[-1]
    if base_BCHW is None:
        base_BCHW = base_features(generator, latent.w_BLD, px)
    x_BCHW = synthesis.with_detail(base_BCHW, latent.detail_BCHW)
    return synthesis.features(latent.w_BLD, x_BCHW=x_BCHW, start=detail_layer(generator.config, px) + 1)


def synthesize(generator: Generator, latent: Latent, base_BCHW: Tensor | None = None) -> Tensor:
    """Pictures (B, 3, H, W) of latents, differentiable.

    Args:
        base_BCHW: `base_features` of the codes, where they are known already: while detail alone moves, they stay.
    """
    if latent.detail_BCHW is None:
        image_BCHW: Tensor = generator.synthesis(latent.w_BLD)
        return image_BCHW
    return generator.synthesis.rgb(last_features(generator, latent, base_BCHW))

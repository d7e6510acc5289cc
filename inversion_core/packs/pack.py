"""A pack in memory: frozen generator, perceptual network and, if it has one, encoder, on one device.

Suffixes: B image, Z latent z, L style layer, D latent w, C channel, H W height and width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from inversion_core.errors import OptionInvalid
from inversion_core.latents import Latent, as_latent, base_features, detail_shape, synthesize
from inversion_core.loss import InversionLoss
from inversion_core.models import DetailPredictor, DiscriminatorFeatures, Generator, NoFeatures
from inversion_core.models.encoders.base import PictureEncoder
from inversion_core.packs.by_start import settings_for
from inversion_core.packs.detail import DetailSpec
from inversion_core.packs.directions import Direction, check_steps
from inversion_core.packs.learned import Variant, check_learned, pick_variant
from inversion_core.packs.manifest import PackManifest

MOST = 1.5
"""Largest absolute value of a target: resampling may overshoot 1 slightly."""


def check_values(picture: Tensor) -> None:
    """Raise ValueError unless the values are in [-1, 1], with some tolerance. Any shape."""
    low, high = (float(value) for value in picture.detach().aminmax())
    if low < -MOST or high > MOST:  # NaN is let through: it diverges, which is a result
        raise ValueError(
            f"the picture has values from {low:g} to {high:g}; [-1, 1] is needed: divide 0..255 by 127.5 and "
            f"subtract 1, as inversion_core.pictures.to_tensor does"
        )


class Pack:
    """The networks of one pack, float32 and frozen. Outputs are differentiable with respect to inputs.

    Pictures are (B, 3, H, W) RGB, nominally in [-1, 1], with H = W = `resolution`; codes are (B, L, D).
    """

    def __init__(self, manifest: PackManifest, *, generator: Generator, perceptual: nn.Module | None = None,
                 encoder: PictureEncoder | None = None, direction_steps: Mapping[str, Tensor] | None = None,
                 learned: Mapping[Variant, nn.Module] | None = None,
                 detail_predictor: DetailPredictor | None = None,
                 device: str | torch.device = "cpu"):  # fmt: skip
        """Freezes the networks and moves them and the directions' steps (L, D) to `device`."""
        if (encoder is not None) != manifest.has_encoder:
            raise ValueError("the manifest and the networks disagree about an encoder")
        if (perceptual is None or isinstance(perceptual, NoFeatures)) == manifest.has_perceptual:
            raise ValueError("the manifest and the networks disagree about a perceptual network")
        if (detail_predictor is not None) != manifest.has_detail_predictor:
            raise ValueError("the manifest and the networks disagree about a network that begins detail")
        steps = direction_steps or {}
        check_steps(manifest, steps)
        check_learned(manifest, learned or {})
        self.manifest = manifest
        self.device = torch.device(device)
        self.generator: Generator = self._freeze(generator).freeze()
        self.encoder: PictureEncoder | None = None if encoder is None else self._freeze(encoder)
        self.perceptual: nn.Module = self._freeze(NoFeatures() if perceptual is None else perceptual)
        if isinstance(perceptual, DiscriminatorFeatures):
            perceptual.fold()
        self.detail_predictor: DetailPredictor | None = (
            None if detail_predictor is None else self._freeze(detail_predictor)
        )
        self.directions: Mapping[str, Direction] = {
            spec.name: Direction(spec=spec, step_LD=self._here(steps[spec.name], f"direction {spec.name}"))
            for spec in manifest.directions
        }
        """Editing directions by name, in the order of the manifest; see `inversion_core.editing`."""
        self.learned: Mapping[Variant, nn.Module] = {
            variant: self._freeze(network) for variant, network in (learned or {}).items()
        }
        """The networks of the learned optimizers."""

    # -- what it is ------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def version(self) -> str:
        return self.manifest.version

    @property
    def resolution(self) -> int:
        """Side of the pictures in pixels."""
        return self.manifest.resolution

    @property
    def num_layers(self) -> int:
        """Number L of style layers."""
        return self.manifest.num_layers

    @property
    def w_dim(self) -> int:
        return self.manifest.w_dim

    @property
    def z_dim(self) -> int:
        return self.manifest.z_dim

    @property
    def has_encoder(self) -> bool:
        return self.encoder is not None

    @property
    def perceptual_weight(self) -> float:
        """lambda_vgg of equation 1."""
        return self.manifest.perceptual.weight

    @property
    def focus(self) -> float:
        """Default focus: how much more the centre of the face counts than the border."""
        return self.manifest.focus

    @property
    def detail(self) -> DetailSpec:
        """Where detail is added, and how it is found."""
        return self.manifest.detail_or_default

    @property
    def optimizers(self) -> Mapping[str, Mapping[str, Any]]:
        """The optimizers that the pack offers: settings by name, or by name and start."""
        return self.manifest.offered

    def settings(self, name: str, start: str) -> Mapping[str, Any]:
        """The settings of a classic optimizer for a start."""
        return settings_for(self.optimizers[name], start)

    @property
    def default_optimizer(self) -> str:
        return self.manifest.default_optimizer

    @property
    def direction_steps(self) -> dict[str, Tensor]:
        """The steps (L, D) of the directions by name, as `save_pack` takes them."""
        return {name: direction.step_LD for name, direction in self.directions.items()}

    # -- what it does ----------------------------------------------------------------------------------------

    def map(self, z_BZ: Tensor) -> Tensor:
        """Map z (B, Z), of any norm, to W+ codes (B, L, D), with the pack's truncation."""
        if z_BZ.ndim != 2 or z_BZ.shape[1] != self.z_dim:
            raise ValueError(f"z has shape {tuple(z_BZ.shape)}; pack {self.name} takes (B, {self.z_dim})")
        return self.generator.map(self._here(z_BZ, "z"))

    def synthesize(self, code: Latent | Tensor, base_BCHW: Tensor | None = None) -> Tensor:
        """Render latents, or W+ codes (B, L, D), as pictures (B, 3, H, W).

        Args:
            base_BCHW: `base_features` of the codes, where they are known; only the layers above run then.
        """
        return synthesize(self.generator, self.check_latent(code), base_BCHW)

    def base_features(self, w_BLD: Tensor, px: int) -> Tensor:
        """The features (B, C, px, px) of codes to which detail is added."""
        return base_features(self.generator, self.check_codes(w_BLD), px)

    def encode(self, image_BCHW: Tensor) -> Tensor:
        """Encode pictures as W+ codes (B, L, D).

        Raises:
            OptionInvalid: the pack has no encoder.
        """
        if self.encoder is None:
            raise OptionInvalid(f"pack {self.name} has no encoder; start from 'mean' or 'random'")
        return self.encoder.encode(self.check_pictures(image_BCHW), self.generator)

    def features(self, image_BCHW: Tensor) -> Tensor:
        """F of equation 1: feature maps (B, C, h, w) of pictures.

        Raises:
            OptionInvalid: the pack has no perceptual network.
        """
        if not self.manifest.has_perceptual:
            raise OptionInvalid(
                f"pack {self.name} has no perceptual network, so nothing can be inverted with it yet; give it one: "
                f"inversion pack use-imagenet-vgg, or inversion train features"
            )
        features_BCHW: Tensor = self.perceptual(self.check_pictures(image_BCHW))
        return features_BCHW

    def loss(self, image_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
        """Equation 1 per image, (B,). No gradient flows to the target."""
        if image_BCHW.shape != target_BCHW.shape:
            raise ValueError(
                f"image and target have shapes {tuple(image_BCHW.shape)} and "
                f"{tuple(target_BCHW.shape)}; they must be equal"
            )
        target_BCHW = self.check_pictures(target_BCHW.detach())
        loss = InversionLoss(target_BCHW, features=self.features, perceptual_weight=self.perceptual_weight)
        return loss(self.check_pictures(image_BCHW))

    def learned_network(self, name: str, start: str) -> nn.Module:
        """The network of a learned optimizer for a start, see `pick_variant`."""
        return self.learned[pick_variant(self.optimizers, name, start)]

    def mean_codes(self, batch: int = 1) -> Tensor:
        """The generator's w_avg, repeated for every layer and `batch` images: (B, L, D)."""
        return self.generator.w_avg_D.expand(batch, self.num_layers, self.w_dim).clone()

    def changed(self, **fields: Any) -> Pack:
        """The same networks with some fields of the manifest changed, such as `optimizers`."""
        return Pack(
            dataclasses.replace(self.manifest, **fields), generator=self.generator, perceptual=self.perceptual,
            encoder=self.encoder, direction_steps=self.direction_steps, learned=self.learned,
            detail_predictor=self.detail_predictor, device=self.device,
        )  # fmt: skip

    # -- checks ----------------------------------------------------------------------------------------------

    def check_pictures(self, image_BCHW: Tensor) -> Tensor:
        """The pictures as float32 on the pack's device. Raises ValueError if the shape is wrong."""
        side = self.resolution
        if image_BCHW.ndim != 4 or image_BCHW.shape[1:] != (3, side, side):
            raise ValueError(
                f"pictures have shape {tuple(image_BCHW.shape)}; pack {self.name} takes (B, 3, {side}, {side})"
            )
        return self._here(image_BCHW, "pictures")

    def check_targets(self, target_BCHW: Tensor) -> Tensor:
        """As `check_pictures`, but also raises ValueError if the values are not in [-1, 1]."""
        target_BCHW = self.check_pictures(target_BCHW)
        check_values(target_BCHW)
        return target_BCHW

    def check_codes(self, w_BLD: Tensor) -> Tensor:
        """The codes as float32 on the pack's device. Raises ValueError if the shape is wrong."""
        if w_BLD.ndim != 3 or w_BLD.shape[1:] != (self.num_layers, self.w_dim):
            raise ValueError(
                f"codes have shape {tuple(w_BLD.shape)}; pack {self.name} takes (B, {self.num_layers}, {self.w_dim})"
            )
        return self._here(w_BLD, "codes")

    def check_latent(self, code: Latent | Tensor) -> Latent:
        """A latent, or plain codes, as a float32 latent on the pack's device.

        Raises:
            ValueError: a shape is wrong, or codes and detail are not of the same number of images.
        """
        latent = as_latent(code)
        w_BLD, detail_BCHW = self.check_codes(latent.w_BLD), latent.detail_BCHW
        if detail_BCHW is None:
            return Latent(w_BLD=w_BLD)
        if detail_BCHW.ndim != 4 or len(detail_BCHW) != len(w_BLD):
            raise ValueError(f"detail has shape {tuple(detail_BCHW.shape)}; it must be ({len(w_BLD)}, C, H, W)")
        shape = detail_shape(self.manifest.generator, detail_BCHW.shape[-1])
        if detail_BCHW.shape[1:] != shape:
            raise ValueError(f"detail has shape {tuple(detail_BCHW.shape)}; pack {self.name} takes (B, {shape})")
        return Latent(w_BLD=w_BLD, detail_BCHW=self._here(detail_BCHW, "detail"))

    def _here(self, x: Tensor, what: str) -> Tensor:
        if not x.is_floating_point():
            raise ValueError(f"{what} are {x.dtype}; floating point is needed (pictures in [-1, 1], not 0..255)")
        return x.to(device=self.device, dtype=torch.float32)

    def _freeze(self, network: Any) -> Any:
        return network.to(device=self.device, dtype=torch.float32).requires_grad_(False).eval()

    def __repr__(self) -> str:
        codes = f"codes {self.num_layers}x{self.w_dim}"
        return f"Pack({self.name} {self.version}, {self.resolution} px, {codes}, {self.device})"

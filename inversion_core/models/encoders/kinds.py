"""The encoders by their kind. To add one, write its module and enter it in `ENCODERS`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from inversion_core.models.encoder import Encoder, EncoderConfig
from inversion_core.models.encoders.base import EncoderArchitecture, PictureEncoder
from inversion_core.models.encoders.pyramid import PyramidConfig, PyramidEncoder


class EncoderKind(NamedTuple):
    """What a kind of encoder consists of."""

    config: type[Any]
    network: type[Any]


ENCODERS: Mapping[str, EncoderKind] = {
    EncoderConfig.kind: EncoderKind(EncoderConfig, Encoder),
    PyramidConfig.kind: EncoderKind(PyramidConfig, PyramidEncoder),
}
"""By the key "kind" of a pack's encoder."""
DEFAULT_ENCODER = EncoderConfig.kind
"""That of packs which state none."""


def build_encoder(config: EncoderArchitecture) -> PictureEncoder:
    """The network of a configuration, with weights yet to be filled in."""
    network: PictureEncoder = ENCODERS[config.kind].network(config)
    return network

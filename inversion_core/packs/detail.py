"""What pack.json says of detail: where it is added, and how it is found (`inversion_core.latents`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from inversion_core.models import DetailPredictorConfig
from inversion_core.optimizers import Adam

if TYPE_CHECKING:
    from inversion_core.packs.reader import Reader

MAX_STEPS = 1000


@dataclass(frozen=True, kw_only=True)
class DetailSpec:
    """The key "detail" of pack.json."""

    px: int
    """Side of the features that it is added to; the layer is the second one of that size."""
    after: int = 8
    """Steps of w before it, where nobody says."""
    steps: int = 0
    """Steps of detail, where nobody says. 0: none unless it is asked for."""
    learning_rate: float = 0.2
    """Of the Adam that finds it, as are the decays."""
    beta1: float = 0.8
    beta2: float = 0.95
    predictor: DetailPredictorConfig | None = None
    """The network in detail.safetensors that begins it (`models/detail.py`); None: it begins with zeros."""

    def __post_init__(self) -> None:
        if self.px < 4 or self.px & (self.px - 1):
            raise ValueError(f"px is {self.px}; it must be a power of two, 4 or more")
        for name in ("after", "steps"):
            if not 0 <= getattr(self, name) <= MAX_STEPS:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be from 0 to {MAX_STEPS}")
        self.adam()  # which refuses what it cannot be

    def adam(self) -> Adam:
        return Adam(learning_rate=self.learning_rate, beta1=self.beta1, beta2=self.beta2)


def read_detail(reader: Reader) -> DetailSpec:
    """The section "detail".

    Raises:
        PackInvalid: a key is missing, unknown or wrong.
    """
    px, after, steps = (reader.integer(key) for key in ("px", "after", "steps"))
    rate, beta1, beta2 = (reader.number(key) for key in ("learning_rate", "beta1", "beta2"))
    predictor = _read_predictor(reader.section("predictor")) if reader.states("predictor") else None
    reader.end()
    try:
        return DetailSpec(
            px=px, after=after, steps=steps, learning_rate=rate, beta1=beta1, beta2=beta2, predictor=predictor
        )
    except ValueError as error:
        key, _, what = str(error).partition(" ")
        raise reader.fault(key, what) from error


def _read_predictor(reader: Reader) -> DetailPredictorConfig:
    width, inner_width = reader.width("width"), reader.width("inner_width")
    reader.end()
    try:
        return DetailPredictorConfig(width=width, inner_width=inner_width)
    except ValueError as error:
        key, _, what = str(error).partition(" ")
        raise reader.fault(key, what) from error

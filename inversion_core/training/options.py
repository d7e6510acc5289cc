"""What the trainers' configurations share, and their way into and out of a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from inversion_core.models import EncoderConfig

C = TypeVar("C")
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class Variety:
    """How often a real picture is changed before it is a target; see jitter.py."""

    jitter_probability: float = 0.0
    """Of each of two small changes, place and light, of a real picture before it is reconstructed."""
    warp_probability: float = 0.0
    """Of a smooth bending of such a picture, which makes another person of it."""
    exchange_probability: float = 0.0
    """Likewise of parts of other faces in it."""
    surround_probability: float = 0.0
    """Of another surrounding of the aligned face in such a picture: a wall, or what is behind another face."""

    def __post_init__(self) -> None:
        check_shares(self, "jitter_probability", "warp_probability", "exchange_probability", "surround_probability")


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(Variety):
    """Everything that shapes a run, as far as all trainers have it; kept in the run's checkpoint.

    Fields keep their names and meanings: runs of earlier versions go on. A new one has a default that leaves
    such a run as it was.
    """

    encoder: EncoderConfig
    batch_size: int = 4
    """Real pictures a step."""
    warmup_steps: int = 100
    final_rate: float = 0.2
    """Factor of the rates at the end of a phase, reached by a cosine over its last half."""
    lpips_weight: float = 0.5
    """Weight of LPIPS beside twice the L1 distance; 0 where no such network is given."""
    face_lpips_weight: float = 0.0
    """Weight of LPIPS of the inner face alone, enlarged, where an aligned picture has it; needs the same network."""
    identity_weight: float = 0.0
    """Weight of the identity distance of a reconstruction, where a face recognition network is given."""
    identity_every: int = 1
    """One picture in so many has the identity term, weighted by as much: the network costs as much as the others
    together."""
    encoder_clip: float = 0.0
    """Longest gradient of an encoder without norm layers: one far too long can set off codes that grow without end.
    0: as long as it is."""
    face_weight: float = 0.0
    """Height of the hill that weighs the L1 distance there, above a plain of 0.5 (equation 6); 0: all pixels alike."""
    ema_images: int = 8_000
    """Half life, in images, of the moving averages."""
    seed: int = 0
    precision: str = "float32"
    """"float32", or "bfloat16" for autocast; logits, R1, pictures, codes and losses are float32 in both."""
    records_steps: bool = True
    """On CUDA: each kind of step becomes a graph (recording.py). False: each operation is launched by itself."""
    adversarial_weight: float = 0.1
    """Weight of the adversarial term beside the reconstruction."""
    discriminator_rate: float | None = None
    """Adam's rate for the discriminator; None: the generator's in the second phase, the encoder's in its own run."""
    r1_gamma: float = 1.0
    """Weight of R1 (Mescheder 2018): half of it times the squared gradient at real pictures."""
    r1_every: int = 16
    """Steps between two R1 terms, each weighted by as much (lazy regularisation, Karras 2020)."""
    augment_probability: float = 0.5
    """Of each change of a picture before the discriminator sees it; where it adapts, at the start."""
    augment_target: float | None = None
    """r_t = E[sign D(real)] to which the probability adapts (Karras 2020 ADA: 0.6); None: it stays."""
    augment_images: int = 500_000
    """Real pictures in which an adapting probability can go from 0 to 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "batch_size", "r1_every", "augment_images", "identity_every")
        for name in ("lpips_weight", "face_lpips_weight", "identity_weight", "face_weight", "ema_images",
                     "adversarial_weight", "r1_gamma", "warmup_steps", "final_rate", "encoder_clip"):  # fmt: skip
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative")
        check_shares(self, "augment_probability")
        if self.augment_target is not None and not -1 < self.augment_target < 1:
            raise ValueError(f"augment_target is {self.augment_target}; it must lie between -1 and 1 (usual: 0.6)")
        check_precision(self.precision)


def check_counts(options: object, *names: str) -> None:
    """ValueError where one of these fields is below 1."""
    for name in names:
        if getattr(options, name) < 1:
            raise ValueError(f"{name} is {getattr(options, name)}; it must be at least 1")


def check_shares(options: object, *names: str) -> None:
    """ValueError where one of these fields is not from 0 to 1."""
    for name in names:
        if not 0 <= getattr(options, name) <= 1:
            raise ValueError(f"{name} is {getattr(options, name)}; it must be from 0 to 1")


def check_precision(precision: str) -> None:
    """ValueError where it is none of PRECISIONS."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; it must be one of {', '.join(PRECISIONS)}")


def architecture(kind: type[C], values: dict[str, Any]) -> C:
    """A configuration of a network from what `dataclasses.asdict` and JSON made of it."""
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})

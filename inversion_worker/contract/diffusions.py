"""Semantic diffusion as a job: the face of one photo in the context of another, which is the job's own photo."""

from __future__ import annotations

from pydantic import Field

from inversion_worker.contract.edits import EditMask
from inversion_worker.contract.faces import Quad
from inversion_worker.contract.message import Message


class Diffusion(Message):
    """How a face is put into a context."""

    mask: EditMask | None = Field(
        None,
        description="Where the result must be the face. Default: brows, eyes, nose and mouth.",
        examples=[{"ellipse": [0.5, 0.58, 0.24, 0.28]}],
    )
    weight: float = Field(
        0.5,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="How much the context counts: 0 forgets it after the start, 1 is as much as the face.",
    )
    ring: float = Field(
        0.13,
        ge=0,
        le=0.5,
        allow_inf_nan=False,
        description="Width of the ring around the mask in which the generator is free to join both, as a share of the "
        "crop's side.",
    )


class DiffusionRecord(Diffusion):
    """The same of one job, with the crop of the face's photo; that of the context is among its options."""

    face_align: bool = Field(True, description="`align` of the photo of the face.")
    face_index: int | None = Field(None, description="`face` of the photo of the face.")
    face_quad: Quad | None = Field(None, description="`quad` of the photo of the face.")

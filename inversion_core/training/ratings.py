"""What people and the face detector say of pictures, matched to the pictures of an archive.

Two kinds of knowledge about attributes: ratings (a number for a picture), and pairs (one face in a lower and a
higher version of an attribute). Suffixes: N picture, A attribute, K pair, C channel, H W height and width.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from inversion_core.errors import OptionInvalid
from inversion_core.faces import FaceDetector
from inversion_core.faces.pose import nose_aside
from inversion_core.pictures import load_photo
from inversion_core.progress import progress
from inversion_core.training.data import load_pictures
from inversion_core.training.rating_table import read_ratings

Landmarks = NDArray[np.float64]
LEAST_FACES = 20
"""Fewer rated faces are no ground for a direction."""
RATED_NAME = re.compile(r".*/0*(\d+)\.\w+")
VARIED_NAME = re.compile(r".*/(?P<person>[^_/]+)_(?P<attribute>.+)_(?P<level>\d+)\.\w+")


@dataclass(frozen=True, kw_only=True)
class Attribute:
    """Something that pictures have more or less of."""

    name: str
    """Name of its direction in a pack."""
    label: str
    """What a positive strength does."""
    column: str
    """Column of the ratings, attribute of the pairs; "" where it is read from landmarks."""
    is_direction: bool = True
    """False: no direction is made of it, it is only held fixed while others move."""


ATTRIBUTES = (
    Attribute(name="smile", label="Happier", column="happy"),
    Attribute(name="age", label="Older", column="age"),
    Attribute(name="gender", label="More masculine", column="gender"),
    Attribute(name="weight", label="Heavier", column="weight"),
    Attribute(name="hair-length", label="Longer hair", column="long-haired"),
    Attribute(name="hair-colour", label="Darker hair", column="hair-color"),
    Attribute(name="skin-colour", label="Darker skin", column="skin-color"),
    Attribute(name="yaw", label="Turned to the right of the picture", column=""),
    Attribute(name="pitch", label="Looking down", column=""),
    Attribute(name="outdoors", label="Outdoors", column="outdoors", is_direction=False),
)
"""Every column is optional; `outdoors` keeps the background from changing with the face."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """The pictures that something is known of."""

    attributes: tuple[Attribute, ...]
    """Those that the ratings know, and that are not the same in every picture."""
    pictures_NCHW: Tensor
    """uint8; the rated pictures, then those of the pairs."""
    rating_NA: Tensor
    """Of the rated pictures, standardised, float64."""
    group_N: Tensor
    """Likeness group of each rated picture."""
    is_held_out_N: Tensor
    """Rated pictures that neither the encoder nor the directions are fitted to."""
    pair_K2: dict[str, Tensor]
    """Attribute's name -> places in `pictures_NCHW` of the lower and the higher version, one row a face."""

    @property
    def num_rated(self) -> int:
        return len(self.rating_NA)


def load_study(archive: Path, ratings: Path, *, held_out: int, photos: Path | None = None,
               find: Callable[[Image.Image], Landmarks | None] | None = None) -> Study:  # fmt: skip
    """Match an archive of `inversion train data` with a table of ratings.

    Args:
        held_out: as in training, so that the same pictures are held out.
        photos: folder with the archive's files in full size, for the landmarks; None looks at the archive's own.
        find: gives a picture's landmarks (5, 2), or None for no face; the default is this library's detector.
    Raises:
        OptionInvalid: the ratings are no such table, or know none of these pictures or attributes.
        ValueError: as `load_pictures`.
    """
    value_of = read_ratings(ratings)
    columns = list(next(iter(value_of.values())))
    parts = load_pictures(archive, held_out=held_out)
    names = [name for part in parts for name in part.names]
    pictures_NCHW = torch.cat([part.pictures_NCHW for part in parts])
    number_of = {k: int(match[1]) for k, name in enumerate(names) if (match := RATED_NAME.fullmatch(name))}
    number_of = {k: number for k, number in number_of.items() if number in value_of}
    look = find or _finder()
    row_of = {}  # place in the archive -> column -> value, of the pictures with a face
    for k in progress(number_of, desc="landmarks", unit="picture"):
        pose = read_pose(look(_picture(pictures_NCHW[k], names[k], photos)))
        if pose is not None:
            row_of[k] = {**value_of[number_of[k]], **pose}
    attributes = _telling(row_of.values(), columns)
    if len(row_of) < LEAST_FACES or not any(a.column for a in attributes):
        raise OptionInvalid(
            f"{ratings} and {archive} have {len(row_of)} faces and the columns "
            f"{[a.column for a in attributes if a.column]} in common; at least {LEAST_FACES} faces and one of "
            f"{', '.join(a.column for a in ATTRIBUTES if a.column)} are needed"
        )
    low_high = find_pairs(names[: len(parts[0])])  # held-out versions stay out
    pairs = {a.name: low_high[a.column] for a in attributes if a.is_direction and a.column in low_high}
    used = dict.fromkeys([*row_of, *(k for places in pairs.values() for k in places.flatten().tolist())])
    place = {k: index for index, k in enumerate(used)}
    group_of = _groups(archive)
    return Study(
        attributes=attributes,
        pictures_NCHW=pictures_NCHW[list(place)],
        rating_NA=_standardised([[row[a.column or a.name] for a in attributes] for row in row_of.values()]),
        group_N=torch.tensor([group_of[names[k]] for k in row_of]),
        is_held_out_N=torch.tensor([k >= len(parts[0]) for k in row_of]),
        pair_K2={name: places.apply_(place.__getitem__) for name, places in pairs.items()},
    )


def find_pairs(names: Sequence[str]) -> dict[str, Tensor]:
    """Attribute -> places (K, 2) of its lowest and highest version, for every person who has both.

    With three evenly spaced levels the middle one has no say in the slope of a straight line, so it is left out.
    """
    levels: dict[tuple[str, str], dict[int, int]] = {}
    for k, name in enumerate(names):
        if match := VARIED_NAME.fullmatch(name):
            levels.setdefault((match["attribute"], match["person"]), {})[int(match["level"])] = k
    extremes: dict[str, tuple[int, int]] = {}
    for (attribute, _), found in levels.items():
        low, high = extremes.get(attribute, (min(found), max(found)))
        extremes[attribute] = min(low, *found), max(high, *found)
    pairs: dict[str, list[list[int]]] = {}
    for (attribute, _), found in levels.items():
        low, high = extremes[attribute]
        if low != high and low in found and high in found:
            pairs.setdefault(attribute, []).append([found[low], found[high]])
    return {attribute: torch.tensor(places) for attribute, places in pairs.items()}


def read_pose(landmarks: Landmarks | None) -> dict[str, float] | None:
    """Where the nose lies between eyes and mouth: `yaw` in eye distances to the right, `pitch` from eyes 0 to mouth 1.

    Args:
        landmarks: (5, 2), as `Face.landmarks`; None, and then the answer is None, where no face was found.
    """
    if landmarks is None:
        return None
    eyes, mouth, nose = landmarks[:2].mean(axis=0), landmarks[3:].mean(axis=0), landmarks[2]
    across = landmarks[1] - landmarks[0]
    down = np.array([-across[1], across[0]])  # a tilted head is neither turned nor lowered
    pitch = float((nose - eyes) @ down) / float((mouth - eyes) @ down)
    return {"yaw": nose_aside(landmarks), "pitch": pitch}


def _telling(rows: Iterable[Mapping[str, float]], columns: Sequence[str]) -> tuple[Attribute, ...]:
    """The attributes that the table or the landmarks have, and that differ from picture to picture."""
    rows = list(rows)
    known = [a for a in ATTRIBUTES if not a.column or a.column in columns]
    return tuple(a for a in known if len({row[a.column or a.name] for row in rows}) > 1)


def _standardised(values: list[list[float]]) -> Tensor:
    rating_NA = torch.tensor(values, dtype=torch.float64)
    return (rating_NA - rating_NA.mean(0)) / rating_NA.std(0, correction=0)


def _finder() -> Callable[[Image.Image], Landmarks | None]:
    detector = FaceDetector()

    def find(image: Image.Image) -> Landmarks | None:
        faces = detector.detect(image)
        return faces[0].landmarks if faces else None

    return find


def _picture(picture_CHW: Tensor, name: str, photos: Path | None) -> Image.Image:
    """The archive's picture, or its file below `photos`: at 64 px landmarks are as good, to 0.2 % of the side."""
    if photos is not None:
        return load_photo(photos / name)
    return Image.fromarray(picture_CHW.permute(1, 2, 0).contiguous().numpy())


def _groups(archive: Path) -> dict[str, int]:
    """Name -> likeness group, of all pictures."""
    with np.load(archive, allow_pickle=False) as content:
        return dict(zip(content["names"].tolist(), content["group_N"].tolist(), strict=True))

"""Direction files of others: InterFaceGAN, IDInvert, e4e, StyleFeatureEditor, GANSpace, SeFa.

What a file is, its content says; what a direction means for a pack, its shape says.

Suffixes: L style layer, D latent w.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inversion_core.editing.directions.pickled import MOST_BYTES, numbers_of, read_pickled
from inversion_core.errors import OptionInvalid, PackInvalid
from inversion_core.packs.unpickle import read_values

NPY, ZIP = b"\x93NUMPY", b"PK\x03\x04"
MOST_DIRECTIONS = 1024
NOT_A_NAME = re.compile(r"[^a-z0-9]+")

Layers = tuple[int, int]


def read_foreign(file: Path, num_layers: int, w_dim: int, layers: Layers | None = None) -> dict[str, Tensor]:
    """The directions of a file by name, each as a step (L, D), as long as it is in the file.

    A file of several numbers them: `age-0`, `age-1`.

    Args:
        layers: the first and last style layer that a direction moves; None: what the file says, else all.
    Raises:
        OptionInvalid: the file cannot be read, is of no known form, or its shape does not fit.
    """
    if layers is not None and not 0 <= layers[0] <= layers[1] < num_layers:
        raise OptionInvalid(f"layers are {layers[0]} to {layers[1]}; the pack has 0 to {num_layers - 1}")
    rows, moved = _rows(file, _content(file))
    steps = [_step(file, row, num_layers, w_dim) for row in rows]
    kept = _kept(file, moved, layers, num_layers)
    stem = NOT_A_NAME.sub("-", file.stem.lower()).strip("-")[:28].strip("-") or "direction"
    names = [stem] if len(steps) == 1 else [f"{stem[:24]}-{index}" for index in range(len(steps))]
    return {name: step_LD * kept[:, None] for name, step_LD in zip(names, steps, strict=True)}


def _content(file: Path) -> Mapping[str, Any]:
    """Everything in the file by name; a single array has the name ""."""
    try:
        if file.stat().st_size > MOST_BYTES:
            raise OptionInvalid(f"{file} has more than {MOST_BYTES} bytes; a file of directions is smaller")
        data = file.read_bytes()
    except OSError as error:
        raise OptionInvalid(f"{file} cannot be read: {error.strerror or error}. Check its path") from error
    if data.startswith(NPY):
        return _npy(file, data)
    if data.startswith(ZIP) and _is_npz(data):
        return _npz(file, data)
    try:
        return {key: value.numpy() if isinstance(value, Tensor) else value for key, value in read_values(file).items()}
    except PackInvalid as error:
        raise OptionInvalid(f"{error} Known are .npy, .npz and .pt files of directions") from error


def _npy(file: Path, data: bytes) -> Mapping[str, Any]:
    stream = BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        _, _, dtype = read(stream)
        if dtype.hasobject:
            return read_pickled(file, data[stream.tell() :])
        return {"": np.load(BytesIO(data), allow_pickle=False)}
    except (ValueError, EOFError) as error:
        raise OptionInvalid(f"{file} is truncated or damaged ({error}). Copy it again") from error


def _is_npz(data: bytes) -> bool:
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            return all(name.endswith(".npy") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def _npz(file: Path, data: bytes) -> Mapping[str, Any]:
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            if sum(info.file_size for info in archive.infolist()) > MOST_BYTES:
                raise OptionInvalid(f"{file} unpacks to more than {MOST_BYTES} bytes; a file of directions is smaller")
        with np.load(BytesIO(data), allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files}
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise OptionInvalid(f"{file} is truncated, damaged, or holds objects ({error})") from error


def _rows(file: Path, content: Mapping[str, Any]) -> tuple[list[NDArray[np.float32]], Sequence[int] | None]:
    """One array for each direction, and the layers that they move, where the file says so."""
    match content:
        case {"": array}:
            return [numbers_of(file, array)], None
        case {"boundary": array, **rest}:  # IDInvert
            return [numbers_of(file, array)], _manipulated(file, rest.get("meta_data"))
        case {"lat_comp": comp, "lat_stdev": deviation}:  # GANSpace: steps of one standard deviation
            return _scaled(file, comp, deviation), None
        case {"comp": comp, "std": deviation}:  # the PCA of the e4e family
            return _scaled(file, comp, deviation), None
        case {"eigvec": vectors}:  # SeFa (rosinality): columns
            return _bounded(file, list(numbers_of(file, vectors).T)), None
    known = "boundary; lat_comp and lat_stdev; comp and std; eigvec"
    raise OptionInvalid(f"{file} has the keys {', '.join(sorted(content)) or 'none'}; known are {known}")


def _scaled(file: Path, comp: object, deviation: object) -> list[NDArray[np.float32]]:
    rows, each = numbers_of(file, comp), numbers_of(file, deviation).reshape(-1)
    if len(rows) != len(each):
        raise OptionInvalid(
            f"{file} has {len(rows)} components and {len(each)} standard deviations; as many are needed"
        )
    return _bounded(file, [row * scale for row, scale in zip(rows, each, strict=True)])


def _bounded(file: Path, rows: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    if not 0 < len(rows) <= MOST_DIRECTIONS:
        raise OptionInvalid(f"{file} has {len(rows)} directions; 1 to {MOST_DIRECTIONS} are taken")
    return rows


def _manipulated(file: Path, meta: object) -> Sequence[int] | None:
    layers = meta.get("manipulate_layers") if isinstance(meta, dict) else None
    if layers is None:
        return None
    if not isinstance(layers, list) or not all(type(layer) is int for layer in layers):
        raise OptionInvalid(f"{file}: manipulate_layers is no list of whole numbers; give --layers FIRST-LAST instead")
    return layers


def _step(file: Path, row: NDArray[np.float32], num_layers: int, w_dim: int) -> Tensor:
    flat = torch.from_numpy(row.squeeze())
    if not flat.isfinite().all() or not flat.any():
        raise OptionInvalid(f"{file} holds a direction that is zero, infinite or NaN")
    if flat.shape == (w_dim,):
        return flat.expand(num_layers, w_dim).clone()
    if flat.shape in ((num_layers, w_dim), (num_layers * w_dim,)):
        return flat.reshape(num_layers, w_dim).clone()
    raise OptionInvalid(
        f"{file} has a direction of shape {tuple(row.shape)}; this pack needs ({w_dim},), one for all layers, or "
        f"({num_layers}, {w_dim}). Take the file that was made for this generator"
    )


def _kept(file: Path, moved: Sequence[int] | None, layers: Layers | None, num_layers: int) -> Tensor:
    """1 for the layers that move."""
    if layers is not None:
        moved = range(layers[0], layers[1] + 1)
    kept_L = torch.zeros(num_layers)
    for layer in range(num_layers) if moved is None else moved:
        if not 0 <= layer < num_layers:
            raise OptionInvalid(f"{file} moves layer {layer}; the pack has the layers 0 to {num_layers - 1}")
        kept_L[layer] = 1
    return kept_L

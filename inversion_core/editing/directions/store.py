"""Files of directions: for use beside a pack, by `--directions FILE` or `load_directions`.

A safetensors file with one (L, D) tensor for each direction, under its name. Its metadata hold what pack.json would say
of them ("directions") and the SHA-256 of the generator that they were made for.

Suffixes: L style layer, D latent w.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from inversion_core.errors import OptionInvalid, PackInvalid
from inversion_core.packs import Direction, DirectionSpec, Pack
from inversion_core.packs.directions import read_spec, spec_fields
from inversion_core.packs.networks import GENERATOR_KEY
from inversion_core.packs.reader import Reader

SPECS_KEY = "directions"
REMEDY = "Make it anew with: inversion directions"


def save_directions(file: Path, directions: Iterable[Direction], pack: Pack) -> None:
    """Write directions of a pack as a file.

    Raises:
        OptionInvalid: there is none, two have one name, or the file cannot be written.
    """
    listed = list(directions)
    steps = {direction.spec.name: direction.step_LD.detach().cpu().float().contiguous() for direction in listed}
    if not listed or len(steps) < len(listed):
        raise OptionInvalid(f"{file} would hold {len(listed)} directions with {len(steps)} names; give each its own")
    metadata = {SPECS_KEY: json.dumps([spec_fields(direction.spec) for direction in listed], allow_nan=False)}
    if (digest := generator_digest(pack)) is not None:
        metadata[GENERATOR_KEY] = digest
    try:
        save_file(steps, file, metadata)
    except (OSError, SafetensorError) as error:
        raise OptionInvalid(f"{file} cannot be written: {error}") from error


def load_directions(file: Path, pack: Pack) -> dict[str, Direction]:
    """The directions of a file, on the pack's device.

    Raises:
        OptionInvalid: it is no file of directions, is damaged, or was made for another generator.
    """
    try:
        with safe_open(file, framework="pt") as stored:
            metadata = stored.metadata() or {}
            steps = {key: stored.get_tensor(key).float() for key in stored.keys()}  # noqa: SIM118  # no dict
        specs = json.loads(metadata[SPECS_KEY])
        listed = [read_spec(Reader(file, f"{SPECS_KEY}.{k}", each, REMEDY)) for k, each in enumerate(specs)]
    except KeyError as error:
        raise OptionInvalid(f"{file} is no file of directions. {REMEDY} import PACK FILE") from error
    except PackInvalid as error:
        raise OptionInvalid(str(error)) from error
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        raise OptionInvalid(f"{file} cannot be read as a file of directions: {error}. {REMEDY}") from error
    made_for, here = metadata.get(GENERATOR_KEY), generator_digest(pack)
    if None not in (made_for, here) and made_for != here:
        raise OptionInvalid(f"{file} was made for another generator than that of pack {pack.name}. {REMEDY}")
    return {spec.name: _direction(file, spec, steps.get(spec.name), pack) for spec in listed}


def with_files(pack: Pack, files: Iterable[Path]) -> Mapping[str, Direction]:
    """The pack's directions and those of files.

    Raises:
        OptionInvalid: as `load_directions`, or two have one name.
    """
    found = dict(pack.directions)
    for file in files:
        for name, direction in load_directions(file, pack).items():
            if name in found:
                raise OptionInvalid(f"{file} has the direction {name!r}, and there is one already; rename it")
            found[name] = direction
    return found


def generator_digest(pack: Pack) -> str | None:
    """SHA-256 of the generator's file; None: the pack was made in memory."""
    return pack.manifest.files.get(pack.manifest.weight_files["generator"])


def _direction(file: Path, spec: DirectionSpec, step_LD: torch.Tensor | None, pack: Pack) -> Direction:
    needed = (pack.num_layers, pack.w_dim)
    if step_LD is None or step_LD.shape != needed or not step_LD.isfinite().all():
        shape = "missing" if step_LD is None else f"of shape {tuple(step_LD.shape)}, or not finite"
        raise OptionInvalid(f"{file}: direction {spec.name} is {shape}; pack {pack.name} needs {needed}. {REMEDY}")
    return Direction(spec=spec, step_LD=step_LD.to(pack.device))

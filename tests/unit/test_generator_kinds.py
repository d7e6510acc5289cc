"""Each architecture in a room of its own: what pack.json says of it, and that nobody else asks which one it is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from inversion_core.errors import PackInvalid
from inversion_core.models.generators import ARCHITECTURES
from inversion_core.packs.manifest import PackManifest, parse_manifest
from tests.tiny import tiny_pack

HOUSE = Path(__file__).parents[2] / "inversion_core"
OF_STYLEGAN1 = (
    "training/", "cli/train_networks.py", "packs/convert.py", "packs/foreign.py", "benchmark/packs.py",
    "models/__init__.py",
)  # fmt: skip
"""What trains StyleGAN generators or reads IDInvert's, and may say so."""


def written() -> dict[str, object]:
    manifest = tiny_pack().manifest
    text: dict[str, object] = json.loads(manifest.to_json())
    return text | {"files": dict.fromkeys(manifest.tensor_files, "0" * 64)}


def read(text: dict[str, object]) -> PackManifest:
    return parse_manifest(json.dumps(text).encode(), Path("pack.json"))


def test_packs_of_before_state_no_kind_and_are_stylegan1() -> None:
    text = written()
    assert "kind" not in text["generator"]  # type: ignore[operator]
    assert read(text).generator == tiny_pack().manifest.generator
    text["generator"] = {"kind": "stylegan1", **text["generator"]}  # type: ignore[dict-item]
    assert read(text).generator == tiny_pack().manifest.generator


def test_an_unknown_kind_is_refused_by_its_name() -> None:
    text = written()
    text["generator"] = {"kind": "stylegan9", **text["generator"]}  # type: ignore[dict-item]
    with pytest.raises(PackInvalid, match=r"generator\.kind.*'stylegan9'.*knows stylegan1"):
        read(text)


def test_nobody_outside_asks_which_architecture_it_is() -> None:
    """A name in quotes is one in somebody's file."""
    names = r"(?<!\")\b(StyleGANGenerator|SynthesisNetwork|stylegan\d)\b"
    for file in HOUSE.rglob("*.py"):
        place = file.relative_to(HOUSE).as_posix()
        if not place.startswith(("models/generators/", *OF_STYLEGAN1)):
            assert not re.search(names, file.read_text()), place


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_every_size_has_a_layer_for_detail(kind: str) -> None:
    config = ARCHITECTURES[kind].config()
    assert len(config.layer_px) == config.num_layers
    for px in set(config.layer_px):
        layer, channels = config.detail_at(px)
        assert config.layer_px[layer] == px
        assert channels > 0

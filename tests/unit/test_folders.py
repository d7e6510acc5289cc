"""Where `inversion invert` and `inversion submit` write: names of photos never lead out of the folder asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inversion_client.folders import folders as of_the_client
from inversion_core.cli.folders import folders as of_the_command

Folders = Callable[[Sequence[Path], Path], Iterator[tuple[Path, Path]]]
pytestmark = pytest.mark.unit
both = pytest.mark.parametrize("folders", [of_the_client, of_the_command], ids=["client", "command"])


@both
@pytest.mark.parametrize("name", ["..jpg", "...jpg", ".", "..", " .jpg", ". .png"])
def test_a_name_of_dots_is_no_way_out(folders: Folders, name: str) -> None:
    ((_, folder),) = folders([Path(name)], Path("a/b"))
    assert folder == Path("a/b/photo")


@both
def test_photos_of_one_name_get_a_number(folders: Folders) -> None:
    photos = [Path(name) for name in ("x/a.jpg", "y/a.png", "a-2.jpg", "A.jpg", "..jpg", "...jpg")]
    names = [folder.name for _, folder in folders(photos, Path("out"))]
    assert names == ["a", "a-2", "a-2-2", "A-3", "photo", "photo-2"]


@given(st.lists(st.text(st.sampled_from(". /a\\~\n\x1b"), min_size=1, max_size=6), max_size=6))
@both
def test_every_folder_is_one_of_its_own_right_below(folders: Folders, names: list[str]) -> None:
    found = [folder for _, folder in folders([Path(name) for name in names], Path("out"))]
    assert all(folder.parent == Path("out") and folder.name.strip(".") for folder in found)
    assert len(set(found)) == len(names)

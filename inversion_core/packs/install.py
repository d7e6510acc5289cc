"""Install a pack: from a folder, an archive, or an archive behind a URL, into the user's folder of packs."""

from __future__ import annotations

import io
import os
import re
import stat
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from inversion_core.errors import OptionInvalid, PackInvalid, PackNotFound
from inversion_core.packs.digests import digest
from inversion_core.packs.extension import AnyManifest, parse_own, read_own
from inversion_core.packs.fetch import OpenUrl, fetch, open_https
from inversion_core.packs.load import pack_folders, verify_pack
from inversion_core.packs.manifest import MANIFEST_FILE, MAX_FILE_BYTES, SHA256, PackManifest
from inversion_core.packs.places import user_root
from inversion_core.packs.save import move_folder

MAX_PACK_BYTES = 4 * 2**30
"""Most that a pack may hold, and an archive of one."""
MAX_FILES = 1000
CHUNK_BYTES = 2**20
MOST_AT_ONCE_BYTES = 2**23
"""Longest table of contents of an archive: a hundred thousand files."""
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

Opener = Callable[[str], IO[bytes]]
"""Opens one file of what is installed, by its path inside the pack."""


@dataclass(frozen=True, kw_only=True)
class Installed:
    """A pack that was installed."""

    folder: Path
    manifest: PackManifest
    is_new: bool
    """False where the same pack was there already."""
    hidden_by: Path | None = None
    """A pack of that name that is found first."""
    hides: Path | None = None
    """A pack of that name that is no longer found by it."""
    hides_same_version: bool = False
    """Whether that one has the same version and another content."""


def install_pack(source: str | Path, *, sha256: str | None = None, root: Path | None = None, overwrite: bool = False,
                 open_url: OpenUrl = open_https) -> Installed:  # fmt: skip
    """Put a pack where it is found by its name, after all checks of `verify_pack`; it appears whole or not at all.

    Args:
        source: a pack's folder, a .zip as `write_archive` makes it, or an https URL of one.
        sha256: of the archive; a URL must have it.
        root: the folder of packs; None: the user's own.
        overwrite: replace another pack of that name there.
        open_url: what opens a URL.
    Raises:
        OptionInvalid: a URL without https or `sha256`; or `sha256` is none, or given for a folder.
        PackNotFound: there is nothing at `source`.
        PackInvalid: it is no pack, a broken one, too large, or not the file of that SHA-256.
        FileExistsError: another pack of that name is there, and `overwrite` is false.
    """
    sha256 = None if sha256 is None else sha256.lower()
    is_url = "://" in str(source)
    _check_sha256(source, sha256, is_url)
    root = user_root() if root is None else root
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".installing.", dir=root) as scratch:
        local = Path(source)
        if is_url:
            assert sha256 is not None
            local = Path(scratch) / "download.zip"
            fetch(str(source), sha256, local, most_bytes=MAX_PACK_BYTES, open_url=open_url)
        elif sha256 is not None:
            _check_file(local, sha256)
        staged = Path(scratch) / "new"
        staged.mkdir()
        own = _take(local, str(source), staged)
        target = root / own.name
        if _is_there(target, own, overwrite):
            return Installed(folder=target, manifest=verify_pack(target), is_new=False)
        manifest = _verified(staged, str(source))
        move_folder(staged, target, Path(scratch) / "old")
    return _installed(target, own, manifest)


def _check_sha256(source: str | Path, sha256: str | None, is_url: bool) -> None:
    if sha256 is not None and not SHA256.fullmatch(sha256):
        raise OptionInvalid(f"{sha256!r} is no SHA-256: 64 hexadecimal digits")
    if is_url and sha256 is None:
        raise OptionInvalid(
            f"{source} is a URL, so its SHA-256 is needed: --sha256 HEX, as whoever publishes the pack states it"
        )
    if sha256 is not None and Path(source).is_dir():
        raise OptionInvalid(f"{source} is a folder, which has no SHA-256; its pack.json has those of its files")


def _check_file(file: Path, sha256: str) -> None:
    try:
        found = digest(file)
    except OSError as error:
        raise PackNotFound(f"{file} cannot be read: {error.strerror or error}") from error
    if found != sha256:
        raise PackInvalid(f"{file} has the SHA-256 {found}, not {sha256}: it is another file, or a damaged one")


# -- taking it -----------------------------------------------------------------------------------------------


def _take(source: Path, name: str, staged: Path) -> AnyManifest:
    """Copy pack.json and the files that it lists to `staged`; nothing else of the source is read."""
    with _opened(source, name) as open_file:
        with _reading(name, MANIFEST_FILE), open_file(MANIFEST_FILE) as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise PackInvalid(f"{name}: {MANIFEST_FILE} is longer than {MAX_FILE_BYTES} bytes, so it is none of a pack")
        own = parse_own(data, Path(name) / MANIFEST_FILE)
        if len(own.files) > MAX_FILES:
            raise PackInvalid(f"{name} lists {len(own.files)} files; a pack has at most {MAX_FILES}")
        (staged / MANIFEST_FILE).write_bytes(data)
        left = MAX_PACK_BYTES
        for file in own.files:  # parse_own has refused paths that lead out of a folder
            with _reading(name, file), open_file(file) as stream:
                left = _copy(stream, staged / file, left)
            if left < 0:
                raise PackInvalid(f"{name} holds more than {MAX_PACK_BYTES} bytes, which no pack does")
    return own


def _copy(stream: IO[bytes], file: Path, left: int) -> int:
    """What is left of the bytes that may be written; negative where there are more."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("xb") as out:
        while left >= 0 and (chunk := stream.read(CHUNK_BYTES)):
            left -= len(chunk)
            out.write(chunk)
    return left


@contextmanager
def _reading(name: str, file: str) -> Iterator[None]:
    try:
        yield
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error  # RuntimeError: a password is asked for
        raise PackInvalid(f"{name}: {file} cannot be taken: {reason}. Copy or download the pack again") from error


@contextmanager
def _opened(source: Path, name: str) -> Iterator[Opener]:
    if source.is_dir():
        yield lambda file: _open_regular(source / file)
        return
    if not source.is_file():
        raise PackNotFound(f"There is no file or folder {name}. Give a pack's folder, its archive, or an https URL")
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(_Bounded(source))
            archive = stack.enter_context(zipfile.ZipFile(stream))
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise PackInvalid(
                f"{name} is truncated or no .zip file ({error}). Give one of: inversion pack archive"
            ) from error
        yield _zip_opener(archive, name)


class _Bounded(io.FileIO):
    """A file of which little is read at once: zipfile reads its whole table of contents before anybody can look."""

    def read(self, size: int | None = -1, /) -> bytes:
        left = os.fstat(self.fileno()).st_size - self.tell()
        if (left if size is None or size < 0 else min(size, left)) > MOST_AT_ONCE_BYTES:
            raise zipfile.BadZipFile("it lists too many files")
        return super().read(size) or b""


def _open_regular(file: Path) -> IO[bytes]:
    if not stat.S_ISREG(os.stat(file).st_mode):  # a pipe would never end
        raise OSError(f"{file} is no file")
    return file.open("rb")


def _zip_opener(archive: zipfile.ZipFile, name: str) -> Opener:
    count = Counter(archive.namelist())
    tops = [entry for entry in count if re.fullmatch(rf"([^/]+/)?{re.escape(MANIFEST_FILE)}", entry)]
    if len(tops) != 1:
        raise PackInvalid(f"{name} holds {len(tops) or 'no'} {MANIFEST_FILE}; an archive of a pack has one, on top")
    prefix = tops[0].removesuffix(MANIFEST_FILE)

    def open_file(file: str) -> IO[bytes]:
        if count[prefix + file] != 1:
            raise OSError("it is there twice" if count[prefix + file] else "it is missing")
        entry = archive.getinfo(prefix + file)
        if entry.compress_type not in COMPRESSIONS:
            raise OSError("it is compressed in another way than pack archives are")
        return archive.open(entry)

    return open_file


# -- putting it there ----------------------------------------------------------------------------------------


def _is_there(target: Path, own: AnyManifest, overwrite: bool) -> bool:
    """Whether that very pack is there. Raises FileExistsError where another one is that may not be replaced."""
    if not target.exists():
        return False
    try:
        there = read_own(target)
    except PackInvalid:
        there = None
    if there == own:
        return not overwrite
    if not overwrite:
        what = "which is broken" if there is None else f"{there.name} {there.version}"
        same = there is not None and there.version == own.version
        raise FileExistsError(
            f"{target} is there already, {what}{', with other content under the same version' if same else ''}; "
            f"replace it with --overwrite"
        )
    return False


def _verified(staged: Path, name: str) -> PackManifest:
    try:
        return verify_pack(staged)
    except PackInvalid as error:
        raise PackInvalid(str(error).replace(str(staged), name)) from error  # the folder is gone by then


def _installed(target: Path, own: AnyManifest, manifest: PackManifest) -> Installed:
    same_name = [folder for folder in pack_folders() if _name_of(folder) == own.name]
    if target not in same_name:  # a root that is not looked through
        return Installed(folder=target, manifest=manifest, is_new=True)
    place = same_name.index(target)
    hides = next(iter(same_name[place + 1 :]), None) if place == 0 else None
    other = None if hides is None else read_own(hides)
    return Installed(
        folder=target, manifest=manifest, is_new=True, hidden_by=same_name[0] if place else None, hides=hides,
        hides_same_version=other is not None and other.version == own.version and other != own,
    )  # fmt: skip


def _name_of(folder: Path) -> str | None:
    try:
        return read_own(folder).name
    except PackInvalid:
        return None

"""Where bytes lie: uploads, frames, codes and checkpoints, under the keys of `contract.ArtifactKey`.

    {url}/inversion-{owner}/{job}/...   all files of this service, see owner.py
    {url}/inversion-{owner}/OWNER.txt   says whose they are
    {url}/{job}/...                     those of a job of an earlier release: they stay there, and no others come

Nothing else is ever deleted, whoever it belongs to. Any fsspec URL will do. A local write goes to a file beside the
target and is renamed, so a reader sees the old bytes or the new ones, never half of them; object stores promise that
themselves. On a local disk no other user can read them.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import uuid
from contextlib import suppress
from pathlib import Path

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from inversion_commands import remedy
from inversion_worker import private
from inversion_worker.errors import StorageFull, StoreUnavailable
from inversion_worker.owner import Owner

log = logging.getLogger(__name__)

_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_JOB = re.compile(r"(deleted-)?[0-9a-f]{32}")
_OWNED = re.compile(r"inversion-[0-9a-f]{32}")
_MARK = "OWNER.txt"
_MARK_TEXT = b"""The files of one inversion service: its Redis has the id of this folder in the key inversion:owner.
No other service deletes anything here. If that Redis has lost its data, nobody will: look through it, then delete it.
"""
OTHERS = (
    "they belong to other services, or to this one from before its Redis lost its data. Their results are still there; "
    "delete by hand what nobody needs."
)
_REMEMBERED = 4096
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class ArtifactStore:
    """Bytes by key below one folder or bucket. All methods may be called from any thread."""

    def __init__(self, url: str, owner: Owner | None = None) -> None:
        """`url` is a folder, such as file:///data or s3://bucket/jobs; without an owner all of it is this service's.

        Raises: StoreUnavailable.
        """
        # No listing cache: another process writes to the same place.
        try:
            self._fs, self._root = url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
        except ImportError as error:
            scheme = url.partition("://")[0]
            what = remedy("s3") if scheme == "s3" else f"It is not installed: {error}"
            raise StoreUnavailable(
                f"INVERSION_ARTIFACTS_URL={scheme}://... needs a package of its own. {what}"
            ) from error
        self._local = isinstance(self._fs, LocalFileSystem)
        self._owner = owner
        self._marked = ""
        self._homes: dict[str, str] = {}
        """Folder that holds a job's folder, of the jobs that were looked for lately."""

    def write(self, key: str, data: bytes) -> None:
        """Store `data`, whole or not at all. Raises: StorageFull, and what else the file system raises."""
        self._write(self._path(key), data)

    def read(self, key: str) -> bytes | None:
        """The bytes of `key`, or None where there are none."""
        try:
            data: bytes = self._fs.cat_file(self._path(key))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return data

    def copy(self, source: str, key: str) -> bool:
        """Store the bytes of another key under this one; False, and nothing is stored, where there are none.

        Raises: as `write`.
        """
        if self._local:
            data = self.read(source)
            if data is not None:
                self.write(key, data)
            return data is not None
        try:  # within the store: the bytes do not come by here
            self._fs.cp_file(self._path(source), self._path(key))
        except FileNotFoundError:
            return False
        return True

    def delete(self, key: str) -> None:
        """Delete one key; harmless when it is not there."""
        with suppress(FileNotFoundError):
            self._fs.rm_file(self._path(key))

    def delete_job(self, job_id: str) -> None:
        """Delete every key of a job; harmless when there is none."""
        path = self._path(job_id)
        with suppress(FileNotFoundError):
            if self._local:  # moved away first: a folder that is still being written to cannot be emptied
                private.make_folder(Path(self._own()))
                path, moving = f"{self._own()}/deleted-{uuid.uuid4().hex}", path
                os.rename(moving, path)
            self._fs.rm(path, recursive=True)
        self._homes.pop(job_id, None)

    def job_ids(self) -> list[str]:
        """Names of all folders of this service that are a job's, or what is left of one."""
        return [name for name in self._folders(self._own()) if _JOB.fullmatch(name)]

    def others(self) -> list[str]:
        """Folders of other owners in this store."""
        own = self._own().rsplit("/", 1)[-1]
        return [name for name in self._folders(self._root) if _OWNED.fullmatch(name) and name != own]

    def close(self) -> None:
        """End the connection that tells the owner."""
        if self._owner is not None:
            self._owner.close()

    def _folders(self, path: str) -> list[str]:
        try:
            entries = self._fs.ls(path, detail=True)
        except FileNotFoundError:
            return []
        return [entry["name"].rstrip("/").rsplit("/", 1)[-1] for entry in entries if entry["type"] == "directory"]

    def _path(self, key: str) -> str:
        if not _KEY.fullmatch(key):
            raise ValueError("not an artifact key")
        return f"{self._home(key.partition('/')[0])}/{key}"

    def _home(self, job_id: str) -> str:
        own = self._own()
        if self._owner is None:
            return own
        if job_id not in self._homes:
            if len(self._homes) >= _REMEMBERED:
                self._homes.clear()
            self._homes[job_id] = self._root if self._fs.exists(f"{self._root}/{job_id}") else own
        return self._homes[job_id]

    def _own(self) -> str:
        """The folder of this service."""
        if self._owner is None:
            return str(self._root)
        owner = self._owner.id()
        own = f"{self._root}/inversion-{owner}"
        if owner != self._marked:
            self._homes.clear()
            self._marked = owner
            try:
                self._mark(self._owner, own)
            except (OSError, StorageFull):  # it stops nothing, and is tried again
                self._marked = ""
        return own

    def _mark(self, owner: Owner, own: str) -> None:
        """Say whose folder it is, and what is noticed of others."""
        if self._fs.exists(f"{own}/{_MARK}"):
            return
        self._write(f"{own}/{_MARK}", _MARK_TEXT)
        if owner.note_marked():
            log.warning(
                "%s had lost its mark: is it the store that this service has always used? If files are missing, "
                "stop the service and bring that store back.", own,
            )  # fmt: skip
        if others := self.others():
            log.warning("%s is new, and nothing is deleted in %s: %s", own, ", ".join(others), OTHERS)

    def _write(self, path: str, data: bytes) -> None:
        try:
            if self._local:
                _replace(Path(path), data)
            else:
                self._fs.pipe_file(path, data)
        except OSError as error:
            if error.errno in _FULL:
                raise StorageFull(f"no room to store {len(data)} bytes") from error
            raise


def _replace(path: Path, data: bytes) -> None:
    """Write beside `path`, then rename: atomic, and nothing is left behind by a write that fails."""
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        try:
            private.write_new(part, data)
        except FileNotFoundError:  # the first file of its folder
            private.make_folder(part.parent)
            private.write_new(part, data)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise

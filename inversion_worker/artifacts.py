"""Where bytes lie: uploads, frames, codes and checkpoints, under the keys of `contract.ArtifactKey`.

Any fsspec URL will do. A local write goes to a file beside the target and is renamed, so a reader sees
the old bytes or the new ones, never half of them; object stores promise that themselves. On a local disk no other user
can read them.
"""

from __future__ import annotations

import errno
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

_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_OURS = re.compile(r"(deleted-)?[0-9a-f]{32}")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class ArtifactStore:
    """Bytes by key below one folder or bucket. All methods may be called from any thread."""

    def __init__(self, url: str) -> None:
        """`url` is the folder that holds every job's folder, such as file:///data or s3://bucket/jobs.

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

    def write(self, key: str, data: bytes) -> None:
        """Store `data`, whole or not at all. Raises: StorageFull, and what else the file system raises."""
        path = self._path(key)
        try:
            if self._local:
                _replace(Path(path), data)
            else:
                self._fs.pipe_file(path, data)
        except OSError as error:
            if error.errno in _FULL:
                raise StorageFull(f"no room to store {len(data)} bytes") from error
            raise

    def read(self, key: str) -> bytes | None:
        """The bytes of `key`, or None where there are none."""
        try:
            data: bytes = self._fs.cat_file(self._path(key))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return data

    def delete(self, key: str) -> None:
        """Delete one key; harmless when it is not there."""
        with suppress(FileNotFoundError):
            self._fs.rm_file(self._path(key))

    def delete_job(self, job_id: str) -> None:
        """Delete every key of a job; harmless when there is none."""
        path = self._path(job_id)
        with suppress(FileNotFoundError):
            if self._local:  # moved away first: a folder that is still being written to cannot be emptied
                path, moving = f"{self._root}/deleted-{uuid.uuid4().hex}", path
                os.rename(moving, path)
            self._fs.rm(path, recursive=True)

    def job_ids(self) -> list[str]:
        """Names of all folders that are a job's, or what is left of one; a stranger's folder is none."""
        try:
            entries = self._fs.ls(self._root, detail=True)
        except FileNotFoundError:
            return []
        names = (entry["name"].rstrip("/").rsplit("/", 1)[-1] for entry in entries if entry["type"] == "directory")
        return [name for name in names if _OURS.fullmatch(name)]

    def _path(self, key: str) -> str:
        if not _KEY.fullmatch(key):
            raise ValueError("not an artifact key")
        return f"{self._root}/{key}"


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

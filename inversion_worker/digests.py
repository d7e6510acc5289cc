"""Which weights a pack's codes belong to."""

from __future__ import annotations

from inversion_core.packs import Pack


def digest_of(pack: Pack) -> str:
    """What `PackInfo.digest` says; empty for a pack that was never saved."""
    files = pack.manifest.files
    found = files.get(pack.manifest.weight_files["generator"])
    return f"sha256:{found}" if found else ""

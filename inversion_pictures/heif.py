"""HEIC photos through libheif, where the extra `heif` is installed."""

from __future__ import annotations

from functools import cache


@cache
def register() -> None:
    """Teach Pillow the format. Only what asks for it by name gets it."""
    from pi_heif import register_heif_opener

    register_heif_opener(thumbnails=False)

"""What is taken, and how often it is tried."""

from __future__ import annotations

MIN_SIDE_PX = 64
"""Shortest side of an upload."""
MAX_PIXELS = 50_000_000
"""Most pixels of an upload, counted from its header before it is decoded."""
PHOTO_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""Pillow names of the formats that are taken."""
MAX_BATCH = 64
"""Most photos of one batch."""
MAX_ATTEMPTS = 3
"""How often a job is started before a lost worker makes it fail."""

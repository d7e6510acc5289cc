"""What is taken, and how often it is tried."""

from __future__ import annotations

MAX_BATCH = 64
"""Most photos of one batch."""
MAX_METADATA_BYTES = 2048
"""Longest `metadata` of a submission, as compact JSON in UTF-8."""
MAX_ATTEMPTS = 3
"""How often a job is started before a lost worker makes it fail."""
MAX_SAVED_EDITS = 200
"""Most edit lists that are saved with one inversion."""
MAX_SAVED_BYTES = 16 * 1024
"""Most bytes of one, as JSON."""

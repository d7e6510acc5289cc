"""Where a person is in an aligned crop, and where background: MediaPipe's selfie segmentation (NOTICE.md).

Suffixes: H W height and width, C channel (RGB).
"""

from __future__ import annotations

import functools
import threading
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.float32]

WEIGHTS = Path(__file__).with_name("person.tflite")
NETWORK_PX = 256
"""Side of the pictures that the network takes and gives."""
_LOCK = threading.Lock()
"""One network for all threads: OpenCV's keep their input."""


def person_in(image_HWC: Pixels) -> Pixels:
    """How much of each pixel is a person, hair and clothes included, (H, W) from 0 to 1.

    Args:
        image_HWC: square, in levels from 0 to 255.
    """
    px = image_HWC.shape[0]
    small_HWC = cv2.resize(image_HWC, (NETWORK_PX, NETWORK_PX), interpolation=_way(px, NETWORK_PX))
    with _LOCK:
        network = _network()
        network.setInput(np.ascontiguousarray(np.moveaxis(small_HWC / np.float32(255), -1, 0)[None]))
        found_HW = np.asarray(network.forward(), dtype=np.float32)[0, 0]
    return np.asarray(cv2.resize(found_HW, (px, px), interpolation=_way(NETWORK_PX, px)), dtype=np.float32).clip(0, 1)


def _way(old_px: int, new_px: int) -> int:
    return cv2.INTER_AREA if new_px < old_px else cv2.INTER_LINEAR


@functools.cache
def _network() -> cv2.dnn.Net:
    data = WEIGHTS.read_bytes()
    return cv2.dnn.readNetFromTFLite(np.frombuffer(data, dtype=np.uint8))

"""Answers as they look, for the OpenAPI document. A test holds each to its schema."""

from __future__ import annotations

from typing import Any

from inversion_worker.contract import JobOptions

ID = "5f0c2a7e9d3b4c5f8a6b7c8d9e0f1a2b"
SOURCE_ID = "0b6f3a5e4f7d9b2c1e0a7d6f5b4cc81d"
BATCH_ID = "c81d0b6f3a5e4f7d9b2c1e0a7d6f5b4c"
TIME = "2026-11-22T13:00:00Z"
LATER = "2026-11-23T13:00:00Z"
PACK_DIGEST = "sha256:e9ca931543ba731cddf6815b38377a0eb0e5b404b2fd3af6abfc9f8b6d6f138c"
CURSOR = "MTc5NTQwNjIwNTEwMDo4NzU0ZmRmMTA3OWY0NzE3YjQ2Yjg3ZTA1OWI1MDQ1Yg"
METADATA = {"order": "A-1001", "page": 2}
_OWN = f"/v1/inversions/{ID}"
_PACK = {"name": "faces-128", "version": "1.3", "digest": PACK_DIGEST}
_PARTS = ("aligned", "image", "latents", "pasted", "metrics", "animation", "strip", "render", "edits")

_PHOTO = {"width": 1280, "height": 853}
_FACE = {
    "box": [334.1, 210.6, 530.9, 472.3],
    "landmarks": [[380.2, 301.0], [478.9, 300.2], [431.0, 351.8], [389.5, 405.1], [471.6, 404.4]],
    "score": 0.9987,
    "quad": [[210.0, 96.0], [208.5, 540.2], [652.7, 541.7], [654.2, 97.5]],
    "warnings": [],
}
_CUT = {
    "box": [1120.4, 380.2, 1296.7, 610.5],
    "landmarks": [[1170.3, 460.1], [1247.8, 462.9], [1207.4, 502.6], [1175.0, 546.2], [1240.1, 548.0]],
    "score": 0.9712,
    "quad": [[1029.6, 299.4], [1017.1, 643.6], [1361.3, 656.1], [1373.8, 311.9]],
    "warnings": [
        {
            "kind": "cut-by-border",
            "detail": "The photo's border cuts the face: what is missing is mirrored and blurred in the crop. Use a "
            "photo that shows the whole head.",
        }
    ],
}
FACES = {"photo": _PHOTO, "faces": [_FACE, _CUT]}
INVERSION: dict[str, Any] = {
    "id": ID,
    "batch": None,
    "retry_of": None,
    "status": "succeeded",
    "step": 18,
    "steps": 18,
    "loss": 0.0024,
    "best_step": 18,
    "best_loss": 0.0024,
    "optimizer": "learned-residual",
    "stopped_by": "steps",
    "result_step": 18,
    "missing": [],
    "queue_position": None,
    "attempts": 1,
    "created_at": TIME,
    "started_at": "2026-11-22T13:00:01Z",
    "finished_at": "2026-11-22T13:00:05Z",
    "expires_at": LATER,
    "seconds": 4.012,
    "options": JobOptions.model_construct(steps=8, detail_steps=10).model_dump(mode="json"),
    "masked": False,
    "diffusion": None,
    "source": {"inversion": SOURCE_ID},
    "metadata": METADATA,
    "pack": _PACK,
    "photo": _PHOTO,
    "faces": [_FACE],
    "face_index": 0,
    "face": {"found": 1, "quad": _FACE["quad"]},
    "warnings": [],
    "error": None,
    "links": {
        "self": _OWN,
        "events": f"{_OWN}/events",
        "frames": f"{_OWN}/frames",
        "source": f"/v1/inversions/{SOURCE_ID}",
    }
    | {part: f"{_OWN}/{part}" for part in _PARTS},
}
INVERSIONS = {
    "inversions": [INVERSION],
    "next": f"/v1/inversions?status=succeeded&limit=1&cursor={CURSOR}",
}
BATCH = {
    "id": BATCH_ID,
    "status": "succeeded",
    "total": 2,
    "counts": {"queued": 0, "running": 0, "succeeded": 1, "failed": 0, "canceled": 0, "deleted": 1},
    "created_at": TIME,
    "expires_at": LATER,
    "inversions": [
        INVERSION | {"batch": BATCH_ID, "links": INVERSION["links"] | {"batch": f"/v1/batches/{BATCH_ID}"}},
        None,
    ],
    "links": {"self": f"/v1/batches/{BATCH_ID}"},
}
DIFFUSION: dict[str, Any] = {
    "face": {"inversion": ID},
    "context": {"inversion": SOURCE_ID},
    "weight": 0.5,
    "options": {"steps": 50},
}
FRAMES = {"frames": [{"step": step, "url": f"{_OWN}/frames/{step}"} for step in (0, 5)]}
METRICS = {"metrics": [{"step": 0, "loss": 0.0621, "seconds": 0.04}, {"step": 1, "loss": 0.0583, "seconds": 0.08}]}
LATENTS = {"shape": [2, 3], "pack": _PACK, "step": 98, "latents": [[0.12, -1.5, 0.33], [0.4, -1.02, 0.71]]}
EDIT_ID = "9b1c6f0d2e7a4c5f8b3a6d1e0f9c8b7a"
_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mP4z8AAAAMBAQD3A0FDAAAAAElFTkSuQmCC"
"""A red pixel, PNG."""
RENDER: dict[str, Any] = {
    "image": {"media_type": "image/png", "data": _PIXEL, "width": 1, "height": 1},
    "offset": None,
    "latents": None,
    "pack": _PACK,
    "step": 98,
}
RENDER_ORDER: dict[str, Any] = {
    "source": {"inversion": ID},
    "edits": [
        {"direction": "smile", "strength": 1.5, "hold": ["age"]},
        {"mix": {"seed": 7}, "layers": [4, 9], "amount": 0.5},
        {"truncate": 0.9},
    ],
    "as": "face",
    "format": "webp",
    "side": 512,
}
SAVED_EDIT: dict[str, Any] = {
    "id": EDIT_ID,
    "name": "A little happier",
    "edits": [{"direction": "smile", "strength": 1.5}],
    "parent": None,
    "created_at": TIME,
    "links": {
        "self": f"{_OWN}/edits/{EDIT_ID}",
        "render": f"{_OWN}/render?saved={EDIT_ID}",
        "inversion": _OWN,
    },
}
SAVED_EDITS: dict[str, Any] = {"edits": [SAVED_EDIT]}
EDIT_TO_SAVE: dict[str, Any] = {
    "name": "A little happier",
    "edits": [{"direction": "smile", "strength": 1.5}],
    "parent": None,
}
_USED = {"submitted": 3, "succeeded": 2, "failed": 1, "canceled": 0, "seconds": 9.25, "looked": 4, "rendered": 60}
USAGE = {"total": _USED, "days": [{"date": "2026-11-22", **_USED}]}
_SMILE = {
    "name": "smile",
    "label": "Happier",
    "low": -3.0,
    "high": 3.0,
    "unit": "one standard deviation of the mean ratings, as the linear model reads it",
    "source": "ratings 'happy' of 908 pictures; held fixed: age, gender, weight",
    "held_out_r2": 0.813,
    "side_effects": {"age": -0.12, "gender": 0.05},
}
_DIRECTIONS = "/v1/packs/faces-128/directions"
DIRECTION = {
    **_SMILE,
    "own": False,
    "created_at": None,
    "expires_at": None,
    "links": {"self": f"{_DIRECTIONS}/smile", "strip": f"{_DIRECTIONS}/smile/strip"},
}
OWN_DIRECTION = {
    "name": "smirk",
    "label": "A smirk",
    "low": -1.0,
    "high": 1.0,
    "unit": "the difference between the means of 12 and 15 inversions",
    "source": "12 inversions less 15",
    "held_out_r2": None,
    "side_effects": {},
    "own": True,
    "created_at": TIME,
    "expires_at": "2027-02-20T13:00:00Z",
    "links": {"self": f"{_DIRECTIONS}/smirk", "strip": f"{_DIRECTIONS}/smirk/strip"},
}
DIRECTIONS = {"pack": "faces-128", "directions": [DIRECTION, OWN_DIRECTION]}
DIRECTION_TO_MAKE = {"name": "smirk", "label": "A smirk", "plus": [ID], "minus": [SOURCE_ID]}
PACKS = {
    "packs": [
        {
            **_PACK,
            "resolution": 128,
            "layers": 12,
            "w_dim": 256,
            "starts": ["encoder", "mean", "random"],
            "optimizers": ["adagrad", "adam", "lbfgs", "learned", "learned-residual", "nag", "rmsprop", "sgd"],
            "default_optimizer": "learned-residual",
            "directions": [_SMILE],
            "licence": "CC BY-NC-SA 4.0",
            "description": "128 px faces",
            "default": True,
        }
    ],
    "workers": 1,
}
_TOLD: dict[str, dict[str, Any]] = {
    "queued": {},
    "started": {"attempt": 1, "steps": 18, "aligned": f"{_OWN}/aligned"},
    "frame": {"step": 5, "loss": 0.0512, "url": f"{_OWN}/frames/5"},
    "done": {"step": 98, "loss": 0.0212, "links": INVERSION["links"]},
    "failed": {
        "error": {
            "type": "/problems/no-face-found",
            "title": "No face was found in the photo",
            "status": 422,
            "detail": "Send a photo with a clear face, or set align=false to use the picture as it is.",
            "instance": None,
        }
    },
    "canceled": {},
    "expired": {},
    "deleted": {},
}
TOLD = {kind: {**data, "metadata": METADATA} for kind, data in _TOLD.items()}
"""Each kind of event, and what it says."""

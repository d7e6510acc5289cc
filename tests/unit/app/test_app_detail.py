"""Detail over the API: numbers of steps, files that hold it, and files of it as a start."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from app_fakes import FACES, WORKER, picture_bytes
from app_service import Service, refused, url_of
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load, save

from inversion_app.codes import read_code
from inversion_app.errors import ProblemError
from inversion_worker.code import MAX_DETAIL, Code
from inversion_worker.contract import ArtifactKey, DetailInfo

pytestmark = pytest.mark.unit

URL = "/v1/inversions"
W = np.linspace(-1, 1, 10 * 128, dtype=np.float32).reshape(10, 128)
DETAIL = np.linspace(-3, 3, 4 * 32 * 32, dtype=np.float32).reshape(4, 32, 32)


@pytest.fixture
def detailed(service: Service) -> Service:
    """A service whose pack finds detail by itself."""
    pack = FACES.model_copy(update={"detail": DetailInfo(px=32, after=8, steps=10)})
    service.jobs.announced = [WORKER.model_copy(update={"packs": [pack]})]
    return service


@pytest.mark.parametrize(
    ("given_", "steps", "detail_steps"),
    [
        ({}, 8, 10),
        ({"steps": 50}, 50, 10),
        ({"detail_steps": 3}, 8, 3),
        ({"detail_steps": 0}, 100, 0),
        ({"steps": 7, "detail_steps": 0}, 7, 0),
    ],
)
def test_the_packs_numbers_stand_where_none_are_given(
    detailed: Service, given_: dict[str, int], steps: int, detail_steps: int
) -> None:
    told = detailed.post(URL, json={"image": url_of(picture_bytes()), **given_}).json()
    assert (told["options"]["steps"], told["options"]["detail_steps"]) == (steps, detail_steps)
    assert told["steps"] == steps + detail_steps


def test_a_pack_of_an_older_worker_has_no_detail(service: Service) -> None:
    told = service.post(URL, json={"image": url_of(picture_bytes())}).json()
    assert (told["options"]["steps"], told["options"]["detail_steps"], told["steps"]) == (100, 0, 100)


def test_without_a_worker_nobody_knows_until_one_starts(service: Service) -> None:
    service.jobs.announced = []
    told = service.post(URL, json={"image": url_of(picture_bytes())}).json()
    assert (told["options"]["steps"], told["steps"]) == (None, None)
    service.jobs.change(told["id"], steps=18)
    assert service.get(f"{URL}/{told['id']}").json()["steps"] == 18


@pytest.mark.parametrize("name", ["steps", "detail_steps"])
@pytest.mark.parametrize("value", [-1, 1001, 1.5, "many"])
def test_numbers_that_make_no_sense(service: Service, name: str, value: Any) -> None:
    answer = service.post(URL, json={"image": url_of(picture_bytes()), name: value})
    assert f"`{name}`" in refused(answer, 422, "option-invalid")


def test_safetensors_hold_the_detail_and_npy_does_not(service: Service) -> None:
    job_id = service.submitted()
    service.jobs.start(job_id)
    service.jobs.step(job_id, 0, 0.5)
    service.jobs.succeed(job_id, DETAIL)
    tensors = load(service.get(f"{URL}/{job_id}/latents?format=safetensors").content)
    assert {name: (value.dtype, value.shape) for name, value in tensors.items()} == {
        "w_plus": (np.float32, (10, 128)), "detail": (np.float16, (4, 32, 32)),
    }  # fmt: skip
    np.testing.assert_allclose(tensors["detail"], DETAIL, atol=2e-3)
    assert np.load(io.BytesIO(service.get(f"{URL}/{job_id}/latents").content)).shape == (10, 128)


def test_the_best_so_far_has_its_detail(service: Service) -> None:
    job_id = service.submitted()
    service.jobs.start(job_id)
    service.jobs.find(job_id, 12, DETAIL)
    answer = service.get(f"{URL}/{job_id}/latents?format=safetensors")
    assert answer.headers["inversion-step"] == "12"
    assert load(answer.content)["detail"].shape == (4, 32, 32)


def test_either_file_is_a_start(detailed: Service) -> None:
    whole = Code(w_LD=W, detail_CHW=DETAIL)
    for data, has_detail, steps in ((whole.to_bytes(), True, 0), (whole.npy(), False, 8)):
        answer = detailed.post(URL, files={"image": ("face.png", picture_bytes()), "latents": ("code", data)})
        assert answer.status_code == 202, answer.text
        job_id = answer.json()["id"]
        assert answer.json()["options"]["steps"] == steps, "detail goes on where its code stays"
        np.testing.assert_array_equal(np.load(io.BytesIO(detailed.jobs.files[ArtifactKey.start(job_id)])), W)
        kept = detailed.jobs.files.get(ArtifactKey.start_latent(job_id))
        assert (kept is not None) == has_detail
        if kept is not None:
            np.testing.assert_allclose(Code.from_bytes(kept).detail_CHW, DETAIL, atol=2e-3)  # type: ignore[arg-type]


def test_source_takes_the_detail_over(detailed: Service) -> None:
    done = detailed.submitted()
    detailed.jobs.step(done, 0, 0.5)
    detailed.jobs.succeed(done, DETAIL)
    answer = detailed.post(URL, json={"source": {"inversion": done}})
    assert answer.status_code == 202, answer.text
    assert (answer.json()["options"]["steps"], answer.json()["options"]["detail_steps"]) == (0, 10)
    assert ArtifactKey.start_latent(answer.json()["id"]) in detailed.jobs.files


@pytest.mark.parametrize(
    ("detail", "words"),
    [
        (np.zeros((4, 32), np.float16), "shape"),
        (np.zeros((4, 32, 16), np.float16), "shape"),
        (np.zeros((0, 32, 32), np.float16), "shape"),
        (np.zeros((2, 4, 32, 32), np.float16), "shape"),
        (np.full((1, 4, 4), 1e30, np.float32), "half precision"),
        (np.full((1, 4, 4), np.nan, np.float32), "half precision"),
        (np.zeros((1, 4, 4), np.int32), "floating point"),
    ],
)
def test_a_detail_that_is_none_is_refused(service: Service, detail: np.ndarray[Any, Any], words: str) -> None:
    answer = service.post(
        URL, files={"image": ("face.png", picture_bytes()), "latents": ("code", save({"w_plus": W, "detail": detail}))}
    )
    assert words in refused(answer, 422, "latents-invalid")


def test_a_detail_that_is_too_large_is_refused() -> None:
    detail = np.zeros((MAX_DETAIL // 4096 + 1, 64, 64), np.float16)
    with pytest.raises(ProblemError, match="2,097,152 numbers at most"):
        read_code(save({"w_plus": W, "detail": detail}))


@given(
    hnp.arrays(
        st.sampled_from([np.float16, np.float32, np.float64, np.int8, np.bool_]),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
    )
)
def test_any_detail_is_read_or_refused(detail: np.ndarray[Any, Any]) -> None:
    try:
        code = read_code(save({"w_plus": W, "detail": detail}))
    except ProblemError:
        return
    assert code.detail_CHW is not None
    assert code.detail_CHW.ndim == 3
    assert code.latent() is not None

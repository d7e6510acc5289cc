"""Editing directions over the API: those of a pack, and a tenant's own from a file or from two lists of inversions."""

from __future__ import annotations

import io
import json
from typing import Any

import httpx
import numpy as np
import pytest
from anyio.from_thread import BlockingPortal
from app_clients import LOST, BlockingLine, Line
from app_fakes import FACES, NO_FACE, npy
from app_service import Service, refused, url_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save

from inversion_client import AsyncInversionClient, InversionClient, NotFound, ProblemError, Retries
from inversion_worker.client import DirectionExists, NobodyAnswers, TooManyDirections
from inversion_worker.contract import ArtifactKey, JobFailed, JobStatus

pytestmark = pytest.mark.unit

URL = "/v1/packs/faces-64/directions"
STEP = np.linspace(-1, 1, 10 * 128, dtype=np.float32).reshape(10, 128)


def step_of(service: Service) -> Any:
    """The step of the last direction that was made."""
    record = service.jobs.own_directions[-1]
    return np.load(io.BytesIO(service.jobs.files[ArtifactKey.direction(record.id)]))


def inverted(service: Service, step: int) -> str:
    """An inversion that runs, whose best code has this number everywhere."""
    job_id = service.submitted()
    service.jobs.start(job_id)
    service.jobs.find(job_id, step)
    return job_id


class TestThoseOfAPack:
    def test_list_and_one(self, service: Service) -> None:
        answer = service.get(URL)
        assert answer.headers["cache-control"] == "private, no-store"
        (smile,) = answer.json()["directions"]
        assert smile == {
            "name": "smile", "label": "Happier", "low": -3.0, "high": 2.5, "unit": "a rating", "source": "ratings",
            "held_out_r2": 0.75, "side_effects": {"age": -0.5}, "own": False, "created_at": None, "expires_at": None,
            "links": {"self": f"{URL}/smile", "strip": f"{URL}/smile/strip"},
        }  # fmt: skip
        assert service.get(f"{URL}/smile").json() == smile
        assert service.get("/v1/packs").json()["packs"][0]["directions"][0]["unit"] == "a rating"

    def test_what_there_is_not(self, service: Service) -> None:
        assert "smile" in refused(service.get(f"{URL}/frown"), 404, "direction-not-found")
        refused(service.get("/v1/packs/horses/directions"), 404, "no-such-pack")
        refused(service.get("/v1/packs/horses/directions/smile"), 404, "no-such-pack")
        refused(service.request("DELETE", f"{URL}/smile"), 409, "direction-of-pack")
        refused(service.request("DELETE", f"{URL}/frown"), 404, "direction-not-found")
        service.jobs.announced = []
        refused(service.get(URL), 404, "no-such-pack")


class TestFromAFile:
    @pytest.mark.parametrize(
        "data",
        [npy(STEP), npy(STEP[None]), npy(STEP.astype(np.float64)), save({"latents": STEP}), save({"smirk": STEP}),
         json.dumps(STEP.tolist()).encode()],
    )  # fmt: skip
    def test_it_is_kept_and_listed(self, service: Service, data: bytes) -> None:
        by_form = service.post(URL, files={"direction": ("d", data)}, data={"name": "smirk", "label": "A smirk"})
        assert by_form.status_code == 201, by_form.text
        told = by_form.json()
        assert by_form.headers["location"] == told["links"]["self"] == f"{URL}/smirk"
        assert (told["label"], told["low"], told["high"], told["own"]) == ("A smirk", -3, 3, True)
        assert np.allclose(step_of(service), STEP)
        by_json = service.post(URL, json={"name": "smirk-2", "direction": url_of(data), "high": 2, "unit": "a metre"})
        assert (by_json.json()["label"], by_json.json()["high"], by_json.json()["unit"]) == ("smirk-2", 2, "a metre")
        assert [each["name"] for each in service.get(URL).json()["directions"]] == ["smile", "smirk", "smirk-2"]
        assert service.get(f"{URL}/smirk").json() == told

    def test_one_row_is_of_all_layers(self, service: Service) -> None:
        assert service.post(URL, json={"name": "d", "direction": STEP[:1].tolist()}).status_code == 201
        assert np.array_equal(step_of(service), np.repeat(STEP[:1], 10, 0))

    @pytest.mark.parametrize(
        "data",
        [b"", b"x", npy(STEP[:3]), npy(STEP[:, :5]), npy(np.zeros((10, 128), np.float32)), npy(np.full_like(STEP, np.inf)), b"[[]]",
         save({"latents": STEP}, {"pack": "other"}), save({"latents": STEP}, {"digest": "sha256:x"})],
    )  # fmt: skip
    def test_what_is_none(self, service: Service, data: bytes) -> None:
        answer = service.post(URL, files={"direction": ("d", data)}, data={"name": "smirk"})
        assert "`direction`" in refused(answer, 422, "direction-invalid")
        assert service.jobs.own_directions == []


class TestFromInversions:
    def test_the_difference_of_the_means(self, service: Service) -> None:
        plus, minus = [inverted(service, step) for step in (4, 8)], [inverted(service, 1)]
        told = service.post(URL, json={"name": "smirk", "plus": plus, "minus": minus}).json()
        assert (step_of(service) == 5).all()
        assert (told["low"], told["high"], told["source"]) == (-1, 1, "2 inversions less 1")
        assert "the means of 2 and 1" in told["unit"]
        form = {"name": "again", "plus": ", ".join(plus), "minus": minus[0], "low": "-2", "ttl": "60", "label": ""}
        answer = service.post(URL, files={name: (None, value) for name, value in form.items()})
        assert (answer.status_code, answer.json()["low"], answer.json()["label"]) == (201, -2, "again")

    def test_one_that_has_succeeded_and_one_that_is_named_twice(self, service: Service) -> None:
        job_id = service.submitted()
        service.jobs.run(job_id)
        other = inverted(service, 0)
        service.post(URL, json={"name": "smirk", "plus": [job_id, job_id], "minus": [other]})
        assert np.array_equal(step_of(service), np.arange(10 * 128).reshape(10, 128))

    def test_whose_and_of_what(self, service: Service) -> None:
        good, queued, foreign, other_pack = inverted(service, 1), service.submitted(), inverted(service, 2), inverted(service, 3)  # fmt: skip
        service.jobs.change(foreign, tenant="other")
        service.jobs.change(other_pack, pack_digest="sha256:cd")
        failed = service.submitted()
        service.jobs.change(failed, JobFailed(error=NO_FACE), status=JobStatus.FAILED)
        for bad, word in ((queued, "queued"), (failed, "failed"), (foreign, "no inversion"), ("f" * 32, "no inversion"),
                          (other_pack, "of pack")):  # fmt: skip
            for lists in ({"plus": [good, bad], "minus": [good]}, {"plus": [good], "minus": [bad]}):
                answer = service.post(URL, json={"name": "smirk", **lists})
                assert word in refused(answer, 422, "direction-invalid")
        answer = service.post(URL, json={"name": "smirk", "plus": [good], "minus": [good]})
        assert "zero" in refused(answer, 422, "direction-invalid")


class TestKeeping:
    def made(self, service: Service, **fields: Any) -> httpx.Response:
        return service.post(URL, json={"name": "smirk", "direction": STEP.tolist(), **fields})

    def test_names_are_unique(self, service: Service) -> None:
        assert self.made(service).status_code == 201
        refused(self.made(service), 409, "direction-exists")
        refused(self.made(service, name="smile"), 409, "direction-exists")
        service.jobs.no_direction = DirectionExists()
        refused(self.made(service, name="other"), 409, "direction-exists")
        service.jobs.no_direction = TooManyDirections()
        assert "64" in refused(self.made(service, name="other"), 409, "too-many-directions")

    def test_deleting(self, service: Service) -> None:
        self.made(service)
        service.jobs.announced = []  # no worker is needed for that
        assert [each["name"] for each in service.get(URL).json()["directions"]] == ["smirk"]
        assert service.request("DELETE", f"{URL}/smirk").status_code == 204
        refused(service.request("DELETE", f"{URL}/smirk"), 404, "no-such-pack")
        assert not service.jobs.files

    def test_whose_and_for_which_weights(self, service: Service) -> None:
        self.made(service)
        same_weights = FACES.model_copy(update={"name": "renamed"})
        other_weights = FACES.model_copy(update={"name": "other", "digest": "sha256:cd"})
        worker = service.jobs.announced[0]
        service.jobs.announced = [worker.model_copy(update={"packs": [FACES, same_weights, other_weights]})]
        assert service.get("/v1/packs/renamed/directions/smirk").status_code == 200
        refused(service.get("/v1/packs/other/directions/smirk"), 404, "direction-not-found")
        service.jobs.own_directions = [service.jobs.own_directions[0].model_copy(update={"tenant": "other"})]
        refused(service.get(f"{URL}/smirk"), 404, "direction-not-found")
        refused(service.request("DELETE", f"{URL}/smirk"), 404, "direction-not-found")

    def test_for_how_long(self, service: Service) -> None:
        self.made(service, ttl=60.0)
        record = service.jobs.own_directions[0]
        assert (record.expires_at - record.created_at).total_seconds() == 60


class TestInUse:
    def test_edits_take_it_by_its_name(self, service: Service) -> None:
        for name in ("smirk", "grin", "unused"):
            service.post(URL, json={"name": name, "direction": STEP.tolist()})
        keys = {each.name: ArtifactKey.direction(each.id) for each in service.jobs.own_directions}
        job_id = service.submitted()
        service.jobs.run(job_id)
        etags = [service.get(f"/v1/inversions/{job_id}/render?edit=smirk:1").headers["etag"]]
        assert service.jobs.renders[-1][0].directions == {"smirk": keys["smirk"]}
        edits = [{"direction": "smile", "strength": 1, "hold": ["grin"]}]
        assert service.post("/v1/renders", json={"source": {"seed": 7}, "edits": edits}).status_code == 200
        assert service.jobs.renders[-1][0].directions == {"grin": keys["grin"]}
        service.request("DELETE", f"{URL}/smirk")
        service.post(URL, json={"name": "smirk", "direction": (2 * STEP).tolist()})
        etags.append(service.get(f"/v1/inversions/{job_id}/render?edit=smirk:1").headers["etag"])
        assert etags[0] != etags[1]
        for other in ({"tenant": "other"}, {"digest": "sha256:cd"}):
            service.jobs.own_directions = [each.model_copy(update=other) for each in service.jobs.own_directions]
            service.get(f"/v1/inversions/{job_id}/render?edit=smirk:1.5")
            assert service.jobs.renders[-1][0].directions == {}

    @pytest.mark.parametrize("kind", ["webp", "png"])
    def test_a_strip(self, service: Service, kind: str) -> None:
        answer = service.get(f"{URL}/smile/strip?side=64&format={kind}")
        assert answer.headers["content-type"] == f"image/{kind}"
        picture = Image.open(io.BytesIO(answer.content))
        assert (picture.size, picture.format) == ((5 * 66 - 2, 64), kind.upper())
        orders = [order for order, _, _ in service.jobs.renders]
        assert [order.edits[-1]["strength"] for order in orders] == [-3, -1.5, 0, 1.25, 2.5]
        assert {(order.side, order.source["seed"], order.pack) for order in orders} == {(64, 13, "faces-64")}
        assert answer.headers["cache-control"] == "private, no-cache"
        known = {"If-None-Match": answer.headers["etag"]}
        again = service.get(f"{URL}/smile/strip?side=64&format={kind}", headers=known)
        assert (again.status_code, again.content, len(service.jobs.renders)) == (304, b"", 5)
        other = service.get(f"{URL}/smile/strip?side=64&seed=1&format={kind}", headers=known)
        assert (other.status_code, other.headers["etag"] == answer.headers["etag"]) == (200, False)

    def test_a_strip_of_ones_own(self, service: Service) -> None:
        service.post(URL, json={"name": "smirk", "direction": STEP.tolist(), "high": 1})
        assert service.get(f"{URL}/smirk/strip").status_code == 200
        key = ArtifactKey.direction(service.jobs.own_directions[0].id)
        assert service.jobs.renders[-1][0].directions == {"smirk": key}
        assert service.jobs.renders[-1][0].edits[-1]["strength"] == 1

    def test_no_strip(self, service: Service) -> None:
        refused(service.get(f"{URL}/frown/strip"), 404, "direction-not-found")
        refused(service.get(f"{URL}/smile/strip?side=10000"), 422, "option-invalid")
        service.jobs.refusal = NobodyAnswers("none")
        refused(service.get(f"{URL}/smile/strip"), 503, "no-worker-answers")


@pytest.mark.parametrize(
    "body",
    [{}, {"name": "a"}, {"name": "a", "plus": ["f" * 32]}, {"name": "a", "minus": ["f" * 32]},
     {"name": "a", "direction": [[1]], "plus": ["f" * 32], "minus": ["f" * 32]}, {"name": "A", "direction": [[1]]},
     {"name": "a", "plus": [], "minus": []}, {"name": "a", "plus": ["../x"], "minus": ["f" * 32]},
     {"name": "a", "plus": 101 * ["f" * 32], "minus": ["f" * 32]}, {"name": 33 * "a", "direction": [[1]]},
     {"name": "a", "direction": STEP.tolist(), "low": 1}, {"name": "a", "direction": STEP.tolist(), "high": 1e400},
     {"name": "a", "direction": STEP.tolist(), "low": 0, "high": 0}, {"name": "a", "direction": [[1]], "ttl": 1}],
)  # fmt: skip
def test_what_is_no_request(service: Service, body: dict[str, Any]) -> None:
    text = json.dumps(body).replace("Infinity", "1e400")
    answer = service.post(URL, content=text, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["type"][10:]) in ((422, "option-invalid"), (422, "json-invalid"))
    form = {name: ",".join(value) if isinstance(value, list) and name != "direction" else str(value) for name, value in body.items()}  # fmt: skip
    files: dict[str, Any] = {name: (None, value) for name, value in form.items()} | {"x": (None, "")}
    if "direction" in body:
        files["direction"] = ("d", json.dumps(body["direction"]).encode())
    assert refused(service.post(URL, files=files), 422, "option-invalid")


def test_unknown_fields(service: Service) -> None:
    assert "`nope`" in refused(service.post(URL, json={"name": "a", "nope": 1}), 422, "option-unknown")
    assert "`nope`" in refused(service.post(URL, files={"nope": (None, "1")}), 422, "option-unknown")
    twice = [("name", (None, "a")), ("name", (None, "b"))]
    assert "`name`" in refused(service.post(URL, files=twice), 422, "option-invalid")
    assert "`name`" in refused(service.post(URL, files={"name": ("a", b"x")}), 422, "option-invalid")
    refused(service.post(URL, content=b"x", headers={"content-type": "text/plain"}), 415, "not-json")


def test_both_python_clients(service: Service, portal: BlockingPortal) -> None:
    line, options = Line(service.app), {"url": "http://localhost", "retries": Retries(times=3, first_s=0.001)}
    plus, minus = inverted(service, 4), inverted(service, 1)

    def blocking() -> None:
        with InversionClient(transport=BlockingLine(portal, line), **options) as client:
            (pack, _) = client.packs()
            (smile,) = client.directions(pack)
            assert smile.side_effects == {"age": -0.5}
            assert (smile.name, smile.unit, smile.own, smile.held_out_r2) == ("smile", "a rating", False, 0.75)
            made = client.make_direction(pack, "smirk", plus=[plus], minus=[minus], high=2, ttl=60)
            assert (made.own, made.high, made.links["self"]) == (True, 2, f"{URL}/smirk")
            assert (step_of(service) == 3).all()
            line.faults = [LOST]
            again = client.make_direction("faces-64", "sent", direction=STEP, label="Sent")
            assert (again.name, again.label) == ("sent", "Sent")
            assert client.direction_strip(pack, made, side=64)[:4] == b"RIFF"
            client.delete_direction(pack, made)
            with pytest.raises(NotFound):
                client.delete_direction(pack, "smirk")
            with pytest.raises(ProblemError) as refusal:
                client.make_direction(pack, "smile", direction=STEP)
            assert refusal.value.type == "/problems/direction-exists"
            for name in ("", "..", "a/b"):
                with pytest.raises(ValueError, match="no name"):
                    client.delete_direction(pack, name)

    async def asynchronous() -> None:
        async with AsyncInversionClient(transport=line, **options) as client:
            assert [each.name for each in await client.directions("faces-64")] == ["smile", "sent"]
            await client.delete_direction("faces-64", "sent")
            await client.make_direction("faces-64", "smirk", plus=[plus], minus=[minus])

    blocking()
    portal.call(asynchronous)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200), name=st.text(max_size=5))
def test_no_bytes_are_our_fault(service: Service, data: bytes, name: str) -> None:
    answer = service.post(URL, files={"direction": ("d", data), "name": (None, name)})
    assert 400 <= answer.status_code < 500

"""Renders and saved edits: what is asked of a worker, what is answered, and what is refused."""

from __future__ import annotations

import base64
import io
from typing import Any

import httpx
import numpy as np
import pytest
from app_fakes import FACES, SMALL, npy
from app_service import Service, refused, url_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from inversion_worker.client import JobRefused, NobodyAnswers, SourceCode
from inversion_worker.contract import JobStatus, PictureFormat, Problem, RenderAs

pytestmark = pytest.mark.unit

URL = "/v1/renders"
SMILE = {"direction": "smile", "strength": 1.5}
CODE = np.full((10, 128), 0.5, np.float32)


def done(service: Service) -> str:
    """The id of an inversion that has ended."""
    job_id = service.submitted()
    service.jobs.run(job_id)
    return job_id


def render(service: Service, job_id: str, query: str = "", **options: Any) -> httpx.Response:
    return service.get(f"/v1/inversions/{job_id}/render{query}", **options)


def picture_of(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


class TestGet:
    def test_the_order_and_the_picture(self, service: Service) -> None:
        job_id = done(service)
        answer = render(service, job_id, "?edit=smile:1.5&edit=age:-1&edit=truncate:.7&side=512&format=webp")
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "image/webp"
        assert picture_of(answer.content).format == "WEBP"
        ((order, sent, tenant),) = service.jobs.renders
        assert (order.pack, order.digest, sent, tenant) == (FACES.name, FACES.digest, b"", "")
        assert order.source == {"inversion": job_id}
        assert order.ended == {job_id: True}
        assert order.edits == [SMILE, {"direction": "age", "strength": -1}, {"truncate": 0.7}]
        assert (order.kind, order.format, order.side, order.quad) == (RenderAs.FACE, PictureFormat.WEBP, 512, None)

    def test_a_photo_says_where_the_crop_lies(self, service: Service) -> None:
        answer = render(service, done(service), "?as=photo")
        assert answer.headers["content-type"] == "image/jpeg"
        assert len(service.jobs.renders[0][0].quad or ()) == 4

    def test_a_patch_says_where_it_belongs(self, service: Service) -> None:
        answer = render(service, done(service), "?as=patch")
        assert answer.headers["content-type"] == "image/png"
        assert answer.headers["inversion-offset"] == "3,4"

    def test_a_browser_gets_what_it_names_first(self, service: Service) -> None:
        answer = render(service, done(service), headers={"Accept": "image/avif,image/webp,image/apng,*/*;q=0.8"})
        assert (answer.headers["content-type"], answer.headers["vary"]) == ("image/webp", "Accept")

    def test_what_has_not_changed_is_asked_of_nobody(self, service: Service) -> None:
        job_id = done(service)
        first = render(service, job_id, "?edit=smile:1")
        assert first.headers["cache-control"] == "private, no-cache"
        etag = first.headers["etag"]
        assert not etag.startswith("W/")
        for known in (etag, f'"x", {etag}', "*"):
            again = render(service, job_id, "?edit=smile:1", headers={"If-None-Match": known})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
            assert again.headers["cache-control"] == "private, no-cache"
        assert len(service.jobs.renders) == 1
        for query in (
            "?edit=smile:1.1",
            "?edit=smile:1&as=photo",
            "?edit=smile:1&side=64",
            "?edit=smile:1&format=webp",
        ):
            assert render(service, job_id, query, headers={"If-None-Match": etag}).status_code == 200

    def test_the_best_so_far_of_one_that_runs_and_its_etag(self, service: Service) -> None:
        job_id = service.submitted()
        waiting = render(service, job_id)
        assert "queued" in refused(waiting, 409, "result-not-ready")
        assert waiting.headers["retry-after"] == "3"
        service.jobs.start(job_id)
        service.jobs.find(job_id, 5)
        first = render(service, job_id)
        assert (first.status_code, first.headers["inversion-step"]) == (200, "5")
        assert service.jobs.renders[0][0].ended == {job_id: False}
        service.jobs.find(job_id, 6)
        second = render(service, job_id, headers={"If-None-Match": first.headers["etag"]})
        assert second.status_code == 200
        assert second.headers["etag"] != first.headers["etag"]

    def test_the_etag_is_of_the_code_that_was_rendered(self, service: Service) -> None:
        """A worker may find a better one while the request is on its way."""
        job_id = service.submitted()
        service.jobs.start(job_id)
        service.jobs.find(job_id, 5)
        at_5 = render(service, job_id).headers["etag"]
        made = service.jobs.render

        async def later(*args: Any, **more: Any) -> Any:
            told, data = await made(*args, **more)
            return told.model_copy(update={"step": 6}), data

        service.jobs.render = later  # type: ignore[method-assign]
        raced = render(service, job_id)
        assert (raced.headers["inversion-step"], raced.headers["etag"] == at_5) == ("6", False)
        service.jobs.find(job_id, 6)
        same = render(service, job_id, headers={"If-None-Match": raced.headers["etag"]})
        assert same.status_code == 304

    def test_one_that_failed_without_a_code(self, service: Service) -> None:
        job_id = service.submitted()
        service.jobs.fail(job_id)
        assert "failed" in refused(render(service, job_id), 404, "result-not-available")

    @pytest.mark.parametrize(
        ("query", "told"),
        [
            ("?edit=smile", "smile:1.5"),
            ("?edit=smile:much", "smile:1.5"),
            ("?edit=:1", "smile:1.5"),
            ("?edit=smile:nan", "smile:1.5"),
            ("?edit=smile:1e9", "at most 100"),
            ("?edit=truncate:9", "-2 to 2"),
            ("?as=latents", "as"),
            ("?as=patch&format=jpeg", "png, webp"),
            ("?as=patch&paste=replace", "difference"),
            ("?side=3", "side"),
            ("?side=4096", "2048"),
            ("?side=1&side=2", "more than once"),
            ("?saved=x", "saved"),
            ("?" + "&".join(33 * ["edit=smile:1"]), "edit"),
        ],
    )
    def test_what_cannot_be_asked(self, service: Service, query: str, told: str) -> None:
        assert told in refused(render(service, done(service), query), 422, "option-invalid")
        assert service.jobs.renders == []

    def test_what_a_worker_refuses(self, service: Service) -> None:
        job_id = done(service)
        detail = "There is no direction 'wings'; there are: smile."
        service.jobs.refusal = JobRefused(
            Problem(type="/problems/option-invalid", title="An option is not valid", status=422, detail=detail)
        )
        assert "smile" in refused(render(service, job_id, "?edit=wings:1"), 422, "option-invalid")

    def test_nobody_renders(self, service: Service) -> None:
        job_id = done(service)
        service.jobs.refusal = NobodyAnswers("No worker that is alive answers 'render'.")
        answer = render(service, job_id)
        refused(answer, 503, "no-worker-answers")
        assert answer.headers["retry-after"] == "2"
        service.jobs.announced = []
        refused(render(service, job_id), 503, "no-worker-answers")

    def test_the_pack_is_at_no_worker(self, service: Service) -> None:
        job_id = done(service)
        service.jobs.refusal = NobodyAnswers("No worker that is alive answers 'render'.")
        other = SMALL.model_copy(update={"digest": "sha256:" + 32 * "cd"})
        service.jobs.announced = [service.jobs.announced[0].model_copy(update={"packs": [other]})]
        answer = render(service, job_id)
        assert "small" in refused(answer, 503, "pack-not-loaded")
        assert answer.headers["retry-after"] == "5"
        renewed = other.model_copy(update={"name": FACES.name})
        service.jobs.announced = [service.jobs.announced[0].model_copy(update={"packs": [renewed]})]
        assert "other weights" in refused(render(service, job_id), 503, "pack-not-loaded")

    def test_deleted_and_expired_ones(self, service: Service) -> None:
        job_id = done(service)
        etag = render(service, job_id).headers["etag"]
        service.request("DELETE", f"/v1/inversions/{job_id}")
        refused(render(service, job_id, headers={"If-None-Match": etag}), 404, "inversion-not-found")
        service.jobs.tombstones.add(("", job_id))
        refused(render(service, job_id, headers={"If-None-Match": etag}), 410, "inversion-expired")

    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(text=st.text(max_size=80))
    def test_any_text_as_an_edit(self, service: Service, text: str) -> None:
        if not service.jobs.records:
            done(service)
        (job_id,) = service.jobs.records
        answer = service.get(f"/v1/inversions/{job_id}/render", params={"edit": text})
        assert answer.status_code in (200, 422), answer.text


WORDS = st.sampled_from(
    ["direction", "strength", "mix", "truncate", "seed", "inversion", "latents", "layers", "mask", "box", "edits", "as"]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


class TestPost:
    def test_an_inversion_as_json(self, service: Service) -> None:
        job_id = done(service)
        order = {"source": {"inversion": job_id}, "edits": [SMILE], "side": 128}
        answer = service.post(URL, json=order)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert body["image"]["media_type"] == "image/png"
        assert picture_of(base64.b64decode(body["image"]["data"])).format == "PNG"
        assert (body["image"]["width"], body["offset"], body["latents"]) == (64, None, None)
        assert body["pack"] == {"name": FACES.name, "version": FACES.version, "digest": FACES.digest}
        assert answer.headers["cache-control"] == "private, no-store"
        assert service.post(URL, json=order, headers={"Accept": "*/*"}).json() == body

    @pytest.mark.parametrize(
        ("accept", "kind"),
        [("image/*", "image/png"), ("image/webp", "image/webp"), ("image/jpeg;q=0.5, image/webp", "image/webp")],
    )
    def test_bytes_for_who_wants_a_picture(self, service: Service, accept: str, kind: str) -> None:
        order = {"source": {"seed": 7}}
        answer = service.post(URL, json=order, headers={"Accept": accept})
        assert answer.headers["content-type"] == kind
        answer = service.post(URL, json=order | {"format": "jpeg"}, headers={"Accept": accept})
        assert answer.headers["content-type"] == "image/jpeg"

    def test_a_patch(self, service: Service) -> None:
        body = service.post(URL, json={"source": {"inversion": done(service)}, "as": "patch"}).json()
        assert body["offset"] == {"x": 3, "y": 4}

    @pytest.mark.parametrize("accept", ["application/json", "application/octet-stream", "application/x-safetensors"])
    def test_the_code_after_the_edits(self, service: Service, accept: str) -> None:
        answer = service.post(URL, json={"source": {"seed": 7}, "as": "latents"}, headers={"Accept": accept})
        assert answer.headers["content-type"] == accept
        if accept == "application/json":
            assert (answer.json()["image"], len(answer.json()["latents"])) == (None, 10)

    def test_a_code_that_is_sent(self, service: Service) -> None:
        told = {"latents": CODE.tolist(), "pack": {"name": FACES.name, "version": "1", "digest": FACES.digest}}
        for given_ in (CODE.tolist(), told, url_of(npy(CODE), "application/octet-stream")):
            answer = service.post(URL, json={"source": {"latents": given_}, "edits": [{"truncate": 0.5}]})
            assert answer.status_code == 200, answer.text
            order, sent, _ = service.jobs.renders[-1]
            assert (order.source, order.pack) == ({"sent": True}, FACES.name)
            assert np.array_equal(SourceCode.from_bytes(sent).w_LD, CODE)

    def test_mixes(self, service: Service) -> None:
        own, other = done(service), done(service)
        mixes: list[dict[str, Any]] = [
            {"mix": {"inversion": other}, "layers": [4, 9], "amount": 0.5},
            {"mix": {"latents": CODE.tolist()}},
            {"mix": {"seed": 7}, "mask": {"ellipse": [0.5, 0.5, 0.2, 0.2], "feather": 0.1}},
        ]
        answer = service.post(URL, json={"source": {"inversion": own}, "edits": mixes})
        assert answer.status_code == 200, answer.text
        order, _, _ = service.jobs.renders[0]
        assert order.ended == {own: True, other: True}
        assert order.edits[0]["mix"] == {"inversion": other}
        assert order.edits[1]["mix"] == {"latents": CODE.tolist()}

    def test_a_mix_with_what_is_not_there(self, service: Service) -> None:
        own, other, queued = done(service), done(service), service.submitted()
        service.jobs.change(other, pack_digest="sha256:other", pack_name="other")
        for job_id, told in (("0" * 32, "no inversion"), (queued, "queued"), (other, "of pack other")):
            order = {"source": {"inversion": own}, "edits": [{"mix": {"inversion": job_id}}]}
            assert told in refused(service.post(URL, json=order), 422, "option-invalid")

    def test_another_tenants(self, service: Service) -> None:
        own, other = done(service), done(service)
        service.jobs.change(other, tenant="other")
        refused(service.post(URL, json={"source": {"inversion": other}}), 404, "inversion-not-found")
        mixed = {"source": {"inversion": own}, "edits": [{"mix": {"inversion": other}}]}
        assert "no inversion" in refused(service.post(URL, json=mixed), 422, "option-invalid")

    @pytest.mark.parametrize(
        ("order", "told", "slug"),
        [
            ({}, "`source`", "option-invalid"),
            ({"source": {}}, "`source`: must name a code", "option-invalid"),
            ({"source": {"seed": "7"}}, "`source.seed`", "option-invalid"),
            ({"source": {"seed": 7, "photo": 1}}, "`source.photo`", "option-unknown"),
            ({"source": {"seed": 7}, "colour": 1}, "`colour`", "option-unknown"),
            ({"source": {"seed": 7}, "edits": [{}]}, "`edits[0]`: is no edit", "option-invalid"),
            ({"source": {"seed": 7}, "edits": [SMILE, {**SMILE, "strength": 101}]}, "`edits[1].strength`",
             "option-invalid"),
            ({"source": {"seed": 7}, "edits": [{**SMILE, "mask": {"box": [0, 0, 1]}}]}, "`edits[0].mask", "option-invalid"),
            ({"source": {"seed": 7}, "edits": [{**SMILE, "mask": {}}]}, "is no mask", "option-invalid"),
            ({"source": {"seed": 7}, "edits": 33 * [SMILE]}, "`edits`", "option-invalid"),
            ({"source": {"seed": 7}, "edits": [{"mix": {"id": "x"}}]}, "must name a code", "option-invalid"),
            ({"source": {"seed": 7}, "as": "photo"}, "only an inversion has a photo", "option-invalid"),
            ({"source": {"seed": 7, "pack": "none"}}, "faces-64, small", "pack-not-found"),
            ({"source": {"latents": [[1, 2], [3, 4]]}}, "(10, 128)", "latents-invalid"),
            ({"source": {"latents": "x"}}, "data URL", "data-url-invalid"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_asked(self, service: Service, order: dict[str, Any], told: str, slug: str) -> None:
        status = 404 if slug == "inversion-not-found" else 422
        assert told in refused(service.post(URL, json=order), status, slug)
        assert service.jobs.renders == []

    @pytest.mark.parametrize(
        ("body", "slug"),
        [(b"", "json-invalid"), (b"[]", "json-invalid"), (b'{"source": {"seed": 1, "seed": 2}}', "json-invalid"),
         (b"[" * 50, "json-invalid"), (b'{"source": {"seed": NaN}}', "json-invalid")],
    )  # fmt: skip
    def test_what_is_no_json_object(self, service: Service, body: bytes, slug: str) -> None:
        headers = {"Content-Type": "application/json"}
        refused(service.post(URL, content=body, headers=headers), 422, slug)

    def test_other_bodies(self, service: Service) -> None:
        refused(service.post(URL, data={"seed": "7"}), 415, "not-json")
        large = b'{"source": {"seed": 7}, "x": "' + 5_000_000 * b"a" + b'"}'
        headers = {"Content-Type": "application/json"}
        refused(service.post(URL, content=large, headers=headers), 413, "body-too-large")

    def test_a_session(self, service: Service) -> None:
        headers = {"X-Render-Session": "slider-1"}
        job_id = done(service)
        assert service.post(URL, json={"source": {"seed": 7}}, headers=headers).status_code == 200
        answer = render(service, job_id, headers=headers)
        assert service.jobs.sessions == [":slider-1"] * 2
        render(service, job_id, headers=headers | {"If-None-Match": answer.headers["etag"]})
        assert len(service.jobs.sessions) == 3  # it is the newest too, although no worker is asked
        refused(
            service.post(URL, json={"source": {"seed": 7}}, headers={"X-Render-Session": "a b"}), 422, "option-invalid"
        )

    @settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(source=VALUES, edits=VALUES, more=st.dictionaries(WORDS, VALUES, max_size=1))
    def test_any_values(self, service: Service, source: Any, edits: Any, more: dict[str, Any]) -> None:
        for body in ({"source": source, "edits": edits, **more}, {"source": {"seed": 1}, "edits": [edits]}):
            answer = service.post(URL, json=body)
            assert answer.status_code in (200, 404, 422), answer.text

    def test_without_workers(self, service: Service) -> None:
        service.jobs.announced = []
        answer = service.post(URL, json={"source": {"seed": 7}})
        refused(answer, 503, "no-worker-answers")
        assert answer.headers["retry-after"] == "2"


class TestSaved:
    def test_saved_listed_rendered_deleted(self, service: Service) -> None:
        job_id = done(service)
        own = f"/v1/inversions/{job_id}/edits"
        assert service.get(own).json() == {"edits": []}
        answer = service.post(own, json={"name": "Happier", "edits": [SMILE]})
        assert answer.status_code == 201, answer.text
        saved = answer.json()
        assert answer.headers["location"] == saved["links"]["self"] == f"{own}/{saved['id']}"
        assert (saved["name"], saved["edits"], saved["parent"]) == ("Happier", [SMILE], None)
        assert service.get(saved["links"]["self"]).json() == saved
        child = service.post(own, json={"edits": [SMILE, {"truncate": 0.9}], "parent": saved["id"]}).json()
        assert child["parent"] == saved["id"]
        assert service.get(own).json() == {"edits": [saved, child]}
        shown = service.get(child["links"]["render"] + "&edit=age:1&side=64")
        assert shown.status_code == 200
        assert service.jobs.renders[0][0].edits == [SMILE, {"truncate": 0.9}, {"direction": "age", "strength": 1}]
        assert service.request("DELETE", child["links"]["self"]).status_code == 204
        for address in (child["links"]["self"], child["links"]["render"]):
            refused(service.get(address), 404, "edit-not-found")
        refused(service.request("DELETE", child["links"]["self"]), 404, "edit-not-found")

    def test_what_cannot_be_saved(self, service: Service) -> None:
        own = f"/v1/inversions/{done(service)}/edits"
        refused(service.post(own, json={"edits": [SMILE], "parent": "0" * 32}), 404, "edit-not-found")
        refused(service.post(own, json={"edits": [SMILE], "parent": "x"}), 422, "option-invalid")
        refused(service.post(own, json={"edits": [{}]}), 422, "option-invalid")
        refused(service.post(own, json={"name": 101 * "x", "edits": []}), 422, "option-invalid")
        for number in range(3):
            assert service.post(own, json={"name": str(number), "edits": []}).status_code == 201
        refused(service.post(own, json={"edits": [SMILE]}), 409, "too-many-edits")

    def test_of_another_tenant(self, service: Service) -> None:
        job_id = done(service)
        service.jobs.change(job_id, tenant="other")
        own = f"/v1/inversions/{job_id}/edits"
        refused(service.get(own), 404, "inversion-not-found")
        refused(service.post(own, json={"edits": [SMILE]}), 404, "inversion-not-found")

    def test_an_inversion_that_has_not_ended_keeps_them_too(self, service: Service) -> None:
        job_id = service.submitted()
        assert service.jobs.records[job_id].status is JobStatus.QUEUED
        assert service.post(f"/v1/inversions/{job_id}/edits", json={"edits": [SMILE]}).status_code == 201

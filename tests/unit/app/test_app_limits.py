"""How often and how much: rate limits, room for jobs, pages of other origins, headers of the door."""

from __future__ import annotations

import re

import pytest
from anyio.from_thread import BlockingPortal
from app_fakes import FakeJobClient
from app_keyring import MemoryBuckets, Ring, bearer, stores_of
from app_service import Service, running
from pydantic import ValidationError

from inversion_app.limits import Policy, Verdict
from inversion_app.settings import AppSettings
from inversion_worker.client import QueueFull, TooManyJobs

pytestmark = pytest.mark.unit


class TestRate:
    def test_each_key_has_its_own(self, portal: BlockingPortal) -> None:
        ring = Ring()
        one, two = bearer(ring.make("acme")), bearer(ring.make("acme"))
        settings = AppSettings(auth="on", rate_per_s=2, rate_burst=3)
        with running(portal, settings, FakeJobClient(), stores_of(ring)) as service:
            answers = [service.get("/v1/packs", headers=one) for _ in range(4)]
            assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
            assert [answer.headers["ratelimit"] for answer in answers[:3]] == [
                '"requests";r=2;t=1', '"requests";r=1;t=1', '"requests";r=0;t=2',
            ]  # fmt: skip
            assert {answer.headers["ratelimit-policy"] for answer in answers} == {'"requests";q=3;w=2'}
            refused = answers[3]
            assert refused.json()["type"] == "/problems/rate-limited"
            assert refused.headers["retry-after"] == "1"
            assert service.get("/v1/packs", headers=two).status_code == 200
            assert service.get("/nowhere", headers=two).headers["ratelimit"] == '"requests";r=1;t=1'
            assert service.get("/livez").status_code == 200

    def test_addresses_where_that_is_set(self, portal: BlockingPortal) -> None:
        for limited in (True, False):
            settings = AppSettings(rate_burst=1, rate_limit_addresses=limited)
            buckets = MemoryBuckets()
            with running(portal, settings, FakeJobClient(), stores_of(Ring(), buckets)) as service:
                statuses = [service.get("/v1/packs").status_code for _ in range(2)]
            assert statuses == ([200, 429] if limited else [200, 200])
            assert list(buckets.taken) == (["address:127.0.0.1"] if limited else [])

    def test_none(self, portal: BlockingPortal) -> None:
        ring = Ring()
        headers = bearer(ring.make("acme"))
        with running(portal, AppSettings(auth="on", rate_per_s=0), FakeJobClient(), stores_of(ring)) as service:
            assert "ratelimit" not in service.get("/v1/packs", headers=headers).headers

    @pytest.mark.parametrize(("tokens", "wait_s"), [(0.0, 4), (0.9, 1), (0.5, 2)])
    def test_how_long_to_wait(self, tokens: float, wait_s: int) -> None:
        verdict = Verdict(policy=Policy(per_s=0.25, burst=8), allowed=False, tokens=tokens)
        assert verdict.retry_after_s == wait_s
        assert verdict.headers["RateLimit-Policy"] == '"requests";q=8;w=32'


class TestRoom:
    @pytest.mark.parametrize(
        ("error", "slug"), [(QueueFull("At most 5."), "queue-full"), (TooManyJobs("At most 5."), "too-many-jobs")]
    )
    def test_refused_before_the_body_is_read(self, service: Service, error: Exception, slug: str) -> None:
        service.jobs.no_room = error
        answer = service.upload(b"no picture at all")
        assert (answer.status_code, answer.json()["type"]) == (429, f"/problems/{slug}")
        assert int(answer.headers["retry-after"]) >= 1
        assert "At most 5." in answer.json()["detail"]
        assert service.jobs.records == {}


class TestOtherOrigins:
    ORIGIN = "https://editor.example"

    def asks(self, service: Service, origin: str) -> dict[str, str]:
        headers = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,idempotency-key,traceparent",
        }
        return dict(service.request("OPTIONS", "/v1/inversions", headers=headers).headers)

    def test_none_by_default(self, service: Service) -> None:
        assert "access-control-allow-origin" not in self.asks(service, self.ORIGIN)
        assert "access-control-allow-origin" not in service.get("/v1/packs", headers={"Origin": self.ORIGIN}).headers

    def test_those_that_are_named(self, portal: BlockingPortal) -> None:
        """Asked for without a key, as browsers do it; even a refusal can be read."""
        settings = AppSettings(auth="on", cors_origins=f"{self.ORIGIN}, https://other.example")  # type: ignore[arg-type]
        with running(portal, settings, FakeJobClient(), stores_of(Ring())) as service:
            allowed = self.asks(service, self.ORIGIN)
            assert allowed["access-control-allow-origin"] == self.ORIGIN
            assert "access-control-allow-credentials" not in allowed
            refused = service.get("/v1/packs", headers={"Origin": self.ORIGIN})
            assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, self.ORIGIN)
            assert "Retry-After" in refused.headers["access-control-expose-headers"]
            assert "access-control-allow-origin" not in self.asks(service, "https://evil.example")

    @pytest.mark.parametrize("wrong", ["editor.example", "https://editor.example/path", "ftp://x", "null"])
    def test_what_is_no_origin(self, wrong: str) -> None:
        with pytest.raises(ValidationError, match="is no origin"):
            AppSettings(cors_origins=wrong)  # type: ignore[arg-type]

    def test_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("INVERSION_CORS_ORIGINS", "https://a.example,https://b.example:8443")
        assert AppSettings().cors_origins == ("https://a.example", "https://b.example:8443")


class TestHeaders:
    def test_of_a_refusal_too(self, portal: BlockingPortal) -> None:
        with running(portal, AppSettings(auth="on"), FakeJobClient(), stores_of(Ring())) as service:
            headers = service.get("/v1/packs").headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "camera=()" in headers["permissions-policy"]
        assert "strict-transport-security" not in headers  # it came without TLS

    def test_over_tls(self, service: Service) -> None:
        headers = service.get("https://localhost/livez").headers
        assert re.fullmatch(r"max-age=\d{8}", headers["strict-transport-security"])

    @pytest.mark.parametrize("path", ["/", "/docs", "/problems"])
    def test_pages_do_nothing_that_their_policy_forbids(self, service: Service, path: str) -> None:
        """No inline script, style or handler (the reference may style itself inline)."""
        page = service.get(path, headers={"Accept": "text/html"}).text
        assert not re.search(r"<script(?![^>]*\bsrc=)", page)
        assert not re.search(r"<style|\sstyle=|\son\w+=", page)

"""Who may do what: keys, scopes, tenants, and the requests of this machine that need no key."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from anyio.from_thread import BlockingPortal
from app_fakes import FakeJobClient
from app_keyring import Ring, bearer, stores_of
from app_service import Service, running
from redis.exceptions import ConnectionError as RedisConnectionError

from inversion_app.caller import COOKIE, Authenticator
from inversion_app.guard import is_public, scope_needed
from inversion_app.keys import Key, Scope, digest_of, id_of, make_token
from inversion_app.main import create_app
from inversion_app.settings import AppSettings

pytestmark = pytest.mark.unit


@pytest.fixture
def ring() -> Ring:
    return Ring()


@pytest.fixture
def guarded(portal: BlockingPortal, ring: Ring) -> Iterator[Service]:
    """A service that asks for keys, remembers them for as good as no time, and knows those of `ring`."""
    stores = stores_of(ring)
    with running(portal, AppSettings(auth="on", keep_alive_s=0.05), FakeJobClient(), stores) as service:
        yield service


class TestDoor:
    @pytest.mark.parametrize("path", ["/v1/packs", "/v1/inversions/x", "/v1/inversions", "/nowhere", "/metrics", "/v2"])
    def test_no_key(self, guarded: Service, path: str) -> None:
        answer = guarded.get(path)
        assert (answer.status_code, answer.json()["type"]) == (401, "/problems/key-missing")
        assert answer.headers["www-authenticate"] == 'Bearer realm="inversion"'
        assert "inversion-keys create" in answer.json()["detail"]
        assert answer.headers["x-request-id"]

    @pytest.mark.parametrize(
        "path", ["/", "/docs", "/openapi.json", "/problems", "/livez", "/readyz", "/static/app.js"]
    )
    def test_what_is_public(self, guarded: Service, path: str) -> None:
        assert guarded.get(path).status_code == 200

    def test_a_wrong_key_is_refused_wherever_it_is_wrong(self, guarded: Service, ring: Ring) -> None:
        token = ring.make("acme")
        assert guarded.get("/v1/packs", headers=bearer(token)).status_code == 200
        other = make_token()[0]
        for wrong in (other, token[:-1] + ("A" if token[-1] != "A" else "B"), token + "x", token[:17], "inv_", "x"):
            answer = guarded.get("/v1/packs", headers=bearer(wrong))
            assert (answer.status_code, answer.json()["type"]) == (401, "/problems/key-invalid"), wrong
            assert 'error="invalid_token"' in answer.headers["www-authenticate"]
            assert wrong not in answer.text or len(wrong) < 5

    @pytest.mark.parametrize("header", ["Basic inv_x", "Bearer", "Bearer ", ""])
    def test_what_is_no_bearer_token_is_no_key(self, guarded: Service, header: str) -> None:
        assert guarded.get("/v1/packs", headers={"Authorization": header}).json()["type"] == "/problems/key-missing"

    def test_an_address_takes_no_key(self, guarded: Service, ring: Ring) -> None:
        token = ring.make("acme")
        assert guarded.get(f"/v1/packs?access_token={token}&key={token}").status_code == 401

    def test_a_revoked_key_opens_nothing(self, guarded: Service, ring: Ring) -> None:
        token = ring.make("acme")
        assert guarded.get("/v1/packs", headers=bearer(token)).status_code == 200
        ring.keys.clear()
        assert guarded.get("/v1/packs", headers=bearer(token)).status_code == 401

    def test_an_outage_of_redis_is_no_open_door(self, guarded: Service, ring: Ring) -> None:
        token = ring.make("acme")
        ring.outage = RedisConnectionError("redis://secret@host")
        answer = guarded.get("/v1/packs", headers=bearer(token))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert "secret" not in answer.text

    def test_no_key_is_logged(self, guarded: Service, ring: Ring, caplog: pytest.LogCaptureFixture) -> None:
        token = ring.make("acme")
        with caplog.at_level("DEBUG"):
            guarded.get("/v1/packs", headers=bearer(token))
        assert token[17:] not in caplog.text


class TestScopes:
    @pytest.mark.parametrize(
        ("method", "path", "scope"),
        [
            ("GET", "/v1/packs", Scope.READ),
            ("HEAD", "/v1/packs", Scope.READ),
            ("POST", "/v1/inversions", Scope.WRITE),
            ("DELETE", "/v1/inversions/x", Scope.WRITE),
            ("PURGE", "/v1/inversions/x", Scope.WRITE),
            ("GET", "/metrics", Scope.ADMIN),
        ],
    )
    def test_needed(self, method: str, path: str, scope: Scope) -> None:
        assert scope_needed(method, path) is scope

    @pytest.mark.parametrize("scope", Scope)
    def test_none_includes_another(self, guarded: Service, ring: Ring, scope: Scope) -> None:
        headers = bearer(ring.make("acme", scope))
        for method, path in (("GET", "/v1/packs"), ("POST", "/v1/inversions"), ("GET", "/metrics")):
            answer = guarded.request(method, path, headers=headers)
            assert (answer.status_code == 403) == (scope_needed(method, path) is not scope), (method, path)
            if answer.status_code == 403:
                assert answer.json()["type"] == "/problems/scope-missing"
                assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]


class TestTenants:
    def test_none_sees_what_another_has(self, guarded: Service, ring: Ring) -> None:
        """At every address of an inversion, an inversion of somebody else is as one that never was."""
        owner, stranger = bearer(ring.make("acme")), bearer(ring.make("other"))
        job_id = guarded.upload(headers=owner).json()["id"]
        guarded.jobs.start(job_id)
        guarded.jobs.step(job_id, 0, 0.5)
        guarded.jobs.succeed(job_id)
        document = create_app(AppSettings()).openapi()
        tried = 0
        for path, operations in document["paths"].items():
            if "{inversion_id}" not in path:
                continue
            for method in operations:
                address = path.replace("{step}", "0")
                theirs = guarded.request(method.upper(), address.replace("{inversion_id}", job_id), headers=stranger)
                nobodys = guarded.request(method.upper(), address.replace("{inversion_id}", "f" * 32), headers=stranger)
                assert (theirs.status_code, theirs.json()["type"]) == (404, "/problems/inversion-not-found"), path
                assert theirs.json() == nobodys.json() | {"instance": theirs.json()["instance"]}
                tried += 1
        assert tried >= 9
        assert guarded.get(f"/v1/inversions/{job_id}", headers=owner).json()["status"] == "succeeded"

    def test_keys_of_one_tenant_share(self, guarded: Service, ring: Ring) -> None:
        job_id = guarded.upload(headers=bearer(ring.make("acme"))).json()["id"]
        assert guarded.get(f"/v1/inversions/{job_id}", headers=bearer(ring.make("acme"))).status_code == 200

    def test_no_answer_names_the_tenant(self, guarded: Service, ring: Ring) -> None:
        headers = bearer(ring.make("acme-corporation"))
        assert "acme" not in guarded.upload(headers=headers).text


class TestPageSession:
    def test_a_cookie_does_for_the_page(self, guarded: Service, ring: Ring) -> None:
        token = ring.make("acme")
        answer = guarded.post("/v1/session", headers=bearer(token))
        assert answer.status_code == 204
        cookie = answer.headers["set-cookie"]
        assert all(part in cookie for part in ("HttpOnly", "SameSite=strict", "Path=/", f"{COOKIE}={token}"))
        kept = {"Cookie": f"{COOKIE}={token}"}
        assert guarded.get("/v1/packs", headers=kept).status_code == 200
        assert guarded.get("/v1/packs", headers=kept | {"Sec-Fetch-Site": "same-origin"}).status_code == 200
        gone = guarded.request("DELETE", "/v1/session", headers=kept)
        assert (gone.status_code, "Max-Age=0" in gone.headers["set-cookie"]) == (204, True)

    @pytest.mark.parametrize("site", ["cross-site", "same-site"])
    def test_not_for_a_page_elsewhere(self, guarded: Service, ring: Ring, site: str) -> None:
        kept = {"Cookie": f"{COOKIE}={ring.make('acme')}", "Sec-Fetch-Site": site}
        assert guarded.get("/v1/packs", headers=kept).status_code == 401

    def test_without_keys_there_is_nothing_to_keep(self, service: Service) -> None:
        answer = service.post("/v1/session")
        assert (answer.status_code, "set-cookie" in answer.headers) == (204, False)


class TestAuthenticator:
    def test_asks_once_in_a_while(self, portal: BlockingPortal, ring: Ring) -> None:
        token = ring.make("acme")
        authenticator = Authenticator(ring.find, ring.note_use, remember_s=60)
        for _ in range(5):
            assert portal.call(authenticator.key, token) is not None
        assert (ring.asked, len(ring.used)) == (1, 1)
        assert portal.call(authenticator.key, token[:-1] + "!") is None

    def test_guesses_are_not_remembered(self, portal: BlockingPortal, ring: Ring) -> None:
        authenticator = Authenticator(ring.find, ring.note_use, remember_s=60)
        for _ in range(20):
            assert portal.call(authenticator.key, make_token()[0]) is None
        assert authenticator._known == {}


class TestKey:
    def test_holds_no_secret(self) -> None:
        token, key_id = make_token()
        assert id_of(token) == key_id
        assert len(token) == 4 + 12 + 1 + 43
        assert token not in digest_of(token)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"tenant": ""},
            {"tenant": "a b"},
            {"tenant": "x" * 65},
            {"name": ""},
            {"name": "a\nb"},
            {"scopes": frozenset()},
        ],
    )
    def test_what_will_not_do(self, wrong: dict[str, object]) -> None:
        fields = {
            "id": "0",
            "digest": "0",
            "name": "n",
            "tenant": "t",
            "scopes": frozenset(Scope),
            "created_at": datetime.now(UTC),
        }
        with pytest.raises(ValueError, match=r"tenant|name|scope"):
            Key(**fields | wrong)  # type: ignore[arg-type]


def test_openapi_names_the_key_where_one_is_needed() -> None:
    for auth, expected in (("on", [{"apiKey": []}]), ("auto", [{"apiKey": []}]), ("off", None)):
        document = create_app(AppSettings(auth=auth)).openapi()
        for path, operations in document["paths"].items():
            for operation in operations.values():
                assert operation.get("security") == (None if is_public(path) else expected), path
                if expected and not is_public(path):
                    assert {"401", "403"} <= set(operation["responses"])

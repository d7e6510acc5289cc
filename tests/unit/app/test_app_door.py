"""The door where no API key is asked for: the token of `make serve`, and pages of other sites."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from anyio.from_thread import BlockingPortal
from app_fakes import FakeJobClient
from app_keyring import Ring, bearer, stores_of
from app_service import Service, refused, running
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError
from starlette.datastructures import Headers

from inversion_app.browsers import is_foreign_page, is_known_host
from inversion_app.caller import COOKIE
from inversion_app.main import create_app
from inversion_app.settings import AppSettings

pytestmark = pytest.mark.unit

TOKEN = "local_" + "t" * 43
LOOPBACK_PROXY = {"Host": "127.0.0.1:8000", "Connection": "close"}
"""All that nginx says with `proxy_pass http://127.0.0.1:8000` and nothing else: what curl on the machine says too."""
ELSEWHERE = [
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "https://evil.example"},  # over plain HTTP browsers leave Sec-Fetch-Site out
    {"Origin": "null"},
    {"Origin": "http://localhost:3000"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
]
OURS: list[dict[str, str]] = [
    {},
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "http://localhost"},
    {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"},
]
UNSAFE = [
    ("POST", "/v1/inversions"),
    ("POST", "/v1/inversions/{id}/cancel"),
    ("POST", "/v1/inversions/{id}/retry"),
    ("DELETE", "/v1/inversions/{id}"),
    ("POST", "/v1/batches"),
    ("DELETE", "/v1/session"),
    ("PUT", "/v1/packs"),
    ("PURGE", "/nowhere"),
]


@pytest.fixture
def ring() -> Ring:
    return Ring()


@pytest.fixture
def local(portal: BlockingPortal, ring: Ring) -> Iterator[Service]:
    """As `make serve` starts it."""
    settings = AppSettings(auth="auto", local_token=SecretStr(TOKEN))
    with running(portal, settings, FakeJobClient(), stores_of(ring)) as service:
        yield service


def local_cookie(service: Service) -> str:
    """The cookie that the page gets for the token, as a browser sends it."""
    return service.post("/v1/session", headers=bearer(TOKEN)).headers["set-cookie"].partition(";")[0]


class TestToken:
    @pytest.mark.parametrize("headers", [{}, LOOPBACK_PROXY, {"Host": "localhost"}, {"Host": "[::1]:8000"}])
    @pytest.mark.parametrize(
        ("method", "path"), [("GET", "/v1/inversions"), ("GET", "/v1/packs"), ("DELETE", "/v1/inversions/x"), ("GET", "/metrics")]
    )  # fmt: skip
    def test_no_address_proves_that_a_caller_is_local(
        self, local: Service, headers: dict[str, str], method: str, path: str
    ) -> None:
        detail = refused(local.request(method, path, headers=headers), 401, "key-missing")
        assert "make serve" in detail

    def test_it_opens_everything(self, local: Service) -> None:
        job_id = local.upload(headers=bearer(TOKEN)).json()["id"]
        assert local.get(f"/v1/inversions/{job_id}", headers=bearer(TOKEN)).status_code == 200
        assert local.get("/metrics", headers=bearer(TOKEN)).status_code == 200
        assert local.request("DELETE", f"/v1/inversions/{job_id}", headers=bearer(TOKEN)).status_code == 204

    @pytest.mark.parametrize("wrong", [TOKEN[:-1], TOKEN + "t", TOKEN.upper(), "local_", "tokén"])
    def test_a_wrong_one_opens_nothing(self, local: Service, wrong: str) -> None:
        headers = {"Authorization": f"Bearer {wrong}".encode("latin-1")}
        assert local.get("/v1/packs", headers=headers).status_code == 401

    def test_an_address_takes_no_token(self, local: Service) -> None:
        assert local.get(f"/?token={TOKEN}").headers.get("set-cookie") is None
        assert local.get("/v1/packs", headers={"Referer": f"http://x/?token={TOKEN}"}).status_code == 401

    def test_api_keys_open_it_too(self, local: Service, ring: Ring) -> None:
        assert local.get("/v1/packs", headers=bearer(ring.make("acme"))).status_code == 200

    @pytest.mark.parametrize("auth", ["on", "auto"])
    def test_it_counts_under_auto_alone_and_where_there_is_one(self, portal: BlockingPortal, auth: str) -> None:
        token = SecretStr(TOKEN) if auth == "on" else None
        settings = AppSettings(auth=auth, local_token=token)  # type: ignore[arg-type]
        with running(portal, settings, FakeJobClient(), stores_of(Ring())) as service:
            for given_token in (TOKEN, "", "None"):
                assert service.get("/v1/packs", headers=bearer(given_token)).status_code == 401
            assert service.get("/v1/packs").status_code == 401

    def test_a_short_one_is_refused(self) -> None:
        with pytest.raises(ValidationError, match="32 to 200 letters"):
            AppSettings(local_token=SecretStr("secret"))

    def test_it_is_in_no_log(self, local: Service, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level("DEBUG"):
            local.get("/v1/packs", headers=bearer(TOKEN))
        assert TOKEN not in caplog.text


class TestPage:
    def test_the_page_keeps_it_in_a_cookie_that_no_script_reads(self, local: Service) -> None:
        cookie = local.post("/v1/session", headers=bearer(TOKEN)).headers["set-cookie"]
        assert all(part in cookie for part in ("HttpOnly", "SameSite=strict", "Path=/"))
        assert not cookie.startswith(f"{COOKIE}=")
        kept = {"Cookie": cookie.partition(";")[0]}
        for headers in OURS:
            assert local.get("/v1/packs", headers=kept | headers).status_code == 200
            assert local.upload(headers=kept | headers).status_code == 202
        gone = local.request("DELETE", "/v1/session", headers=kept)
        assert all("Max-Age=0" in each for each in gone.headers.get_list("set-cookie"))

    @pytest.mark.parametrize("headers", ELSEWHERE)
    def test_the_cookie_is_worth_nothing_on_other_pages(self, local: Service, headers: dict[str, str]) -> None:
        kept = {"Cookie": local_cookie(local)}
        assert local.get("/v1/packs", headers=kept | headers).status_code == 401
        refused(local.upload(headers=kept | headers), 403, "cross-site")

    def test_an_empty_bearer_does_not_hide_the_cookie(self, local: Service) -> None:
        kept = {"Cookie": local_cookie(local), "Authorization": "Bearer "}
        refused(local.upload(headers=kept | ELSEWHERE[0]), 403, "cross-site")


class TestOtherSites:
    @pytest.mark.parametrize("headers", ELSEWHERE)
    @pytest.mark.parametrize(("method", "path"), UNSAFE)
    def test_an_open_service_does_nothing_for_their_pages(
        self, service: Service, method: str, path: str, headers: dict[str, str]
    ) -> None:
        job_id = service.submitted()
        answer = service.request(method, path.replace("{id}", job_id), headers=headers)
        refused(answer, 403, "cross-site")
        assert service.get(f"/v1/inversions/{job_id}").json()["status"] == "queued"

    @pytest.mark.parametrize("headers", OURS)
    def test_programs_and_its_own_page_go_on(self, service: Service, headers: dict[str, str]) -> None:
        assert service.upload(headers=headers).status_code == 202

    def test_a_key_in_a_header_is_sent_on_purpose(self, local: Service, ring: Ring) -> None:
        for token in (TOKEN, ring.make("acme")):
            assert local.upload(headers=bearer(token) | ELSEWHERE[0]).status_code == 202

    @pytest.mark.parametrize("origins", ["https://editor.example", "*"])
    def test_pages_that_are_let_in_by_name(self, portal: BlockingPortal, origins: str) -> None:
        """Where a cookie would be needed they are let in with a key alone."""
        headers = {"Origin": "https://editor.example", "Sec-Fetch-Site": "cross-site"}
        open_ = AppSettings(auth="off", cors_origins=origins)  # type: ignore[arg-type]
        with running(portal, open_, FakeJobClient()) as service:
            assert service.upload(headers=headers).status_code == 202
        kept = AppSettings(auth="auto", local_token=SecretStr(TOKEN), cors_origins=origins)  # type: ignore[arg-type]
        with running(portal, kept, FakeJobClient()) as service:
            assert service.upload(headers=headers | {"Cookie": local_cookie(service)}).status_code == 401

    def test_the_key_of_the_page_too(self, portal: BlockingPortal, ring: Ring) -> None:
        with running(portal, AppSettings(auth="on"), FakeJobClient(), stores_of(ring)) as service:
            kept = {"Cookie": f"{COOKIE}={ring.make('acme')}"}
            assert service.upload(headers=kept).status_code == 202
            for headers in ELSEWHERE:
                refused(service.upload(headers=kept | headers), 403, "cross-site")

    @given(st.from_regex(r"https?://[a-z0-9.-]{1,20}(:[0-9]{1,5})?", fullmatch=True))
    def test_origin_is_compared_with_host(self, origin: str) -> None:
        host = origin.partition("://")[2]
        assert not is_foreign_page(Headers({"origin": origin, "host": host}))
        assert not is_foreign_page(Headers({"origin": origin, "host": host.upper()}))
        assert is_foreign_page(Headers({"origin": origin, "host": f"x{host}"}))
        assert is_foreign_page(Headers({"origin": origin, "host": host, "sec-fetch-site": "cross-site"}))


class TestHostNames:
    @pytest.mark.parametrize(
        "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.nip.io", "0x7f.1"]
    )
    @pytest.mark.parametrize(
        ("method", "path"), [("GET", "/v1/inversions"), ("DELETE", "/v1/inversions/x"), ("GET", "/metrics")]
    )
    def test_a_name_that_was_made_to_lead_here(self, service: Service, host: str, method: str, path: str) -> None:
        refused(service.request(method, path, headers={"Host": host}), 403, "host-unknown")

    @pytest.mark.parametrize(
        "host", ["localhost", "LOCALHOST:8000", "a.localhost", "127.0.0.1:8000", "10.0.0.5", "[fd00::1]:8000", "", socket.gethostname()]
    )  # fmt: skip
    def test_addresses_and_names_of_this_machine(self, service: Service, host: str) -> None:
        assert service.get("/v1/packs", headers={"Host": host}).status_code == 200

    def test_names_that_are_set(self, portal: BlockingPortal, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("INVERSION_ALLOWED_HOSTS", "gpu.lan, Faces.lan")
        with running(portal, AppSettings(auth="off"), FakeJobClient()) as service:
            for host, status in (("gpu.lan:8000", 200), ("faces.lan", 200), ("other.lan", 403)):
                assert service.get("/v1/packs", headers={"Host": host}).status_code == status
        assert is_known_host(Headers({"host": "anything.example"}), ["*"])

    def test_where_a_key_is_needed_the_name_does_not_matter(self, portal: BlockingPortal, ring: Ring) -> None:
        with running(portal, AppSettings(auth="on"), FakeJobClient(), stores_of(ring)) as service:
            headers = bearer(ring.make("acme")) | {"Host": "faces.example"}
            assert service.get("/v1/packs", headers=headers).status_code == 200


def test_the_reference_names_the_refusals() -> None:
    for auth, elsewhere in (("off", {"403"}), ("auto", {"401", "403"})):
        document = create_app(AppSettings(auth=auth)).openapi()  # type: ignore[arg-type]
        submit = document["paths"]["/v1/inversions"]["post"]["responses"]
        assert elsewhere <= set(submit)
        assert "cross-site" in submit["403"]["content"]["application/problem+json"]["examples"]

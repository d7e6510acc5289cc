"""Keys that are not valid: how many an address may try, and who is not troubled by another's guesses."""

from __future__ import annotations

import pytest
from anyio.from_thread import BlockingPortal
from app_fakes import FakeJobClient
from app_keyring import MemoryBuckets, Ring, bearer, stores_of
from app_service import refused, running

from inversion_app.keys import make_token
from inversion_app.limits import address_name
from inversion_app.settings import AppSettings

pytestmark = pytest.mark.unit

PATH = "/v1/packs"
STRICT = AppSettings(auth="on", wrong_keys_per_s=0.25, wrong_keys_burst=3)


def test_so_many_and_then_429(portal: BlockingPortal) -> None:
    with running(portal, STRICT, FakeJobClient(), stores_of(Ring())) as service:
        for _ in range(3):
            refused(service.get(PATH, headers=bearer(make_token()[0])), 401, "key-invalid")
        answer = service.get(PATH, headers=bearer(make_token()[0]))
        assert "not valid" in refused(answer, 429, "rate-limited")
        assert answer.headers["retry-after"] == "4"
        assert answer.headers["ratelimit-policy"] == '"wrong-keys";q=3;w=12'
        assert service.get("/livez").status_code == 200
        refused(service.get(PATH), 401, "key-missing")  # to bring none is no guess


def test_beyond_it_no_new_key_is_looked_at_and_who_works_already_goes_on(portal: BlockingPortal) -> None:
    ring = Ring()
    working, new = ring.make("acme"), ring.make("acme")
    with running(portal, STRICT, FakeJobClient(), stores_of(ring)) as service:
        assert service.get(PATH, headers=bearer(working)).status_code == 200
        for _ in range(3):
            service.get(PATH, headers=bearer("inv_nonsense"))
        asked = ring.asked
        refused(service.get(PATH, headers=bearer(new)), 429, "rate-limited")
        assert ring.asked == asked
        assert service.get(PATH, headers=bearer(working)).status_code == 200
        asked = ring.asked
        other_end = "A" if working[-1] != "A" else "B"
        refused(service.get(PATH, headers=bearer(working[:-1] + other_end)), 429, "rate-limited")
        assert ring.asked == asked  # to know the id of a key in use does not help to guess its secret


def test_valid_keys_cost_nothing(portal: BlockingPortal) -> None:
    ring, buckets = Ring(), MemoryBuckets()
    with running(portal, STRICT, FakeJobClient(), stores_of(ring, buckets)) as service:
        for _ in range(5):
            assert service.get(PATH, headers=bearer(ring.make("acme"))).status_code == 200
    assert not any(name.startswith("wrong-keys") for name in buckets.taken)


def test_none(portal: BlockingPortal) -> None:
    settings = AppSettings(auth="on", wrong_keys_per_s=0, wrong_keys_burst=1)
    with running(portal, settings, FakeJobClient(), stores_of(Ring())) as service:
        for _ in range(5):
            assert service.get(PATH, headers=bearer(make_token()[0])).status_code == 401


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("10.0.0.9", "address:10.0.0.9"),
        ("::ffff:10.0.0.9", "address:10.0.0.9"),
        ("2001:db8:1:2:3:4:5:6", "address:2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "address:2001:db8:1:2::/64"),
        ("fe80::1%eth0", "address:fe80::/64"),
        ("testclient", "address:testclient"),
    ],
)
def test_the_bucket_of_an_address(address: str, name: str) -> None:
    assert address_name(address) == name

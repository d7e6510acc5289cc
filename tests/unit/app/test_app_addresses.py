"""Which addresses may be called: none of a special-purpose block, however it is written or wrapped."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inversion_app.egress import looks_local
from inversion_app.special_addresses import is_public

pytestmark = pytest.mark.unit

BLOCKS = (
    # iana-ipv4-special-registry
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.0.0/29", "192.0.0.8/32", "192.0.0.9/32", "192.0.0.10/32", "192.0.0.170/32", "192.0.0.171/32",
    "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.88.99.2/32", "192.168.0.0/16",
    "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4", "255.255.255.255/32",
    # iana-ipv6-special-registry, without what only wraps IPv4
    "::1/128", "::/128", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64", "2001::/23", "2001::/32", "2001:1::1/128",
    "2001:1::2/128", "2001:1::3/128", "2001:2::/48", "2001:3::/32", "2001:4:112::/48", "2001:10::/28", "2001:20::/28",
    "2001:30::/28", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20", "5f00::/16", "fc00::/7",
    "fe80::/10",
    # elsewhere: multicast, site-local, IPv4-compatible, IPv4-translated, and what is given out to nobody
    "224.0.0.0/4", "ff00::/8", "fec0::/10", "::/96", "::ffff:0:0:0/96", "4000::/3", "a000::/3",
)  # fmt: skip
SPECIAL_V4 = [ipaddress.IPv4Network(block) for block in BLOCKS if ":" not in block]


@pytest.mark.parametrize("block", BLOCKS)
def test_no_address_of_a_special_block_is_public(block: str) -> None:
    network = ipaddress.ip_network(block)
    for address in (network[0], network[-1], network[network.num_addresses // 2]):
        assert not is_public(str(address))
        assert looks_local(str(address))


def test_the_address_that_one_python_calls_global() -> None:
    assert not is_public("192.0.0.192")


@pytest.mark.parametrize(
    "address",
    [
        "93.184.215.14", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255",
        "172.15.255.255", "172.32.0.0", "191.255.255.255", "192.0.1.0", "198.17.255.255", "198.20.0.0",
        "223.255.255.255", "2606:4700::1111", "2a00:1450:4001::1", "2001:200::1", "2001:db9::1", "3ffe::1",
        "64:ff9b::808:808", "::ffff:8.8.8.8",
    ],
)  # fmt: skip
def test_the_neighbours_of_special_blocks_are_public(address: str) -> None:
    assert is_public(address)


@given(st.sampled_from(SPECIAL_V4), st.integers(0, 2**32 - 1))
def test_wrapping_an_inner_address_opens_nothing(network: ipaddress.IPv4Network, number: int) -> None:
    """IPv4-mapped, NAT64, 6to4, Teredo (server, and client in inverted bits), IPv4-compatible."""
    inner = int(network[number % network.num_addresses])
    for wrapped in (
        0xFFFF << 32 | inner,
        0x0064FF9B << 96 | inner,
        0x2002 << 112 | inner << 80 | 1,
        0x20010000 << 96 | inner << 64,
        0x20010000 << 96 | 0x08080808 << 64 | (inner ^ 0xFFFFFFFF),
        inner,
    ):
        assert not is_public(str(ipaddress.IPv6Address(wrapped)))


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_what_python_does_not_call_global_is_not_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    wraps = isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped or int(address) >> 32 == 0x64FF9B << 64)
    if not wraps and (not address.is_global or address.is_multicast or address.is_reserved):
        assert not is_public(str(address))

"""Which IP addresses belong to single hosts on the public internet: a table of our own, the same on every Python.

The `ipaddress` module carries IANA's registries as they were when that Python was released, and asks another question:
192.0.0.192 is global to Python 3.11.7. Here an address of any special-purpose block is refused, also of those that
IANA calls globally reachable: they are anycast and relay services, and nobody receives webhooks there.

https://www.iana.org/assignments/iana-ipv4-special-registry and .../iana-ipv6-special-registry, as of 2025-10-09.
"""

from __future__ import annotations

import ipaddress

SPECIAL_V4 = tuple(
    ipaddress.IPv4Network(block)
    for block in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared, behind a provider's NAT
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local; the metadata services of clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # IETF protocols: DS-Lite, PCP and TURN anycast, NAT64 discovery, a cloud's metadata
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT relays
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
UNICAST_V6 = ipaddress.IPv6Network("2000::/3")
"""The only part of IPv6 that is given out to hosts. Loopback, link-local, private, multicast lie outside of it."""
SPECIAL_V6 = tuple(
    ipaddress.IPv6Network(block)
    for block in (
        "2001::/23",  # IETF protocols: Teredo, benchmarks, AMT, ORCHID, drone ids
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which leads to the IPv4 address within
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)
TRANSLATED_V6 = (ipaddress.IPv6Network("::ffff:0:0/96"), ipaddress.IPv6Network("64:ff9b::/96"))
"""IPv4-mapped, and NAT64 where a host has IPv6 alone: what counts is the IPv4 address in the last 32 bits."""


def is_public(text: str) -> bool:
    """Whether this IP address is a host's on the public internet. Raises: ValueError where it is no IP address."""
    address = ipaddress.ip_address(text.partition("%")[0])
    return _is_public_v4(address) if isinstance(address, ipaddress.IPv4Address) else _is_public_v6(address)


def _is_public_v4(address: ipaddress.IPv4Address) -> bool:
    return not any(address in block for block in SPECIAL_V4)


def _is_public_v6(address: ipaddress.IPv6Address) -> bool:
    if any(address in block for block in TRANSLATED_V6):
        return _is_public_v4(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return address in UNICAST_V6 and not any(address in block for block in SPECIAL_V6)

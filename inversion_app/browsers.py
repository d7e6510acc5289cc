"""What a request says about the web page that made it, where a browser sent it.

A browser sends cookies on its own, and reaches what only its own machine or network reaches. So a page of any other
site could act for whoever looks at it, unless the service asks where a request comes from. Programs say nothing of
that sort and pass.

    a page of another site   `Sec-Fetch-Site`; over plain HTTP, where browsers leave that out, `Origin` against `Host`
    a name of its own that   the name in `Host`: a page can have a name of its site lead to this machine a moment later
    leads here               (DNS rebinding) and is then, to the browser, a page of this service
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers

_OURS = ("same-origin", "none")
"""`none` is the person: an address that was typed in, a bookmark."""


def is_foreign_page(headers: Headers, allowed_origins: Collection[str] = ()) -> bool:
    """Whether a page of another origin made this request, and not one of those that are allowed."""
    origin = headers.get("origin")
    if origin is not None and (origin in allowed_origins or "*" in allowed_origins):
        return False
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in _OURS
    return origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()


def is_known_host(headers: Headers, allowed_hosts: Collection[str] = ()) -> bool:
    """Whether the name that the request was made to is none that a stranger can have lead here.

    An IP address leads nowhere else; localhost and this machine's own name are not given out. A request without
    `Host` comes from no browser.
    """
    name = host_name(headers.get("host", ""))
    if name in ("", "localhost", socket.gethostname().lower()) or name.endswith(".localhost"):
        return True
    return name in [each.lower() for each in allowed_hosts] or "*" in allowed_hosts or _is_address(name)


def host_name(host: str) -> str:
    """The Host field without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True

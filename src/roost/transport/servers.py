"""Which servers a client knows: those it was given, and those that the cluster tells of.

nats-py never forgets a server that has left the cluster, and knows no password for one it was told of when
the password stood in the URL; both end in attempts that can only fail.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from urllib.parse import ParseResult

from nats import errors as nats_errors
from nats.aio.client import Srv


def merge(pool: Sequence[Srv], current: Srv, urls: object, parse: Callable[[str], ParseResult]) -> list[Srv]:
    """The pool after an INFO with these `connect_urls`, such as ``["10.0.0.2:4222"]``.

    User and password of the current server's URL go with its other servers too, as in Go's client; what
    cannot be read as an address is passed over.
    """
    if not isinstance(urls, list) or not urls:
        return list(pool)
    userinfo, at, _ = current.uri.netloc.rpartition("@")
    found: dict[tuple[str, int | None], Srv] = {}
    for url in urls:
        try:
            uri = parse(f"{current.uri.scheme}://{userinfo}{at}{url}")
            host, port = uri.hostname or "", uri.port
        except (nats_errors.Error, ValueError):
            continue
        # A certificate is made out to a name: an address is reached under the name that is known already.
        name = (current.tls_name or current.uri.hostname) if _is_address(host) else None
        found[host, port] = Srv(uri, discovered=True, tls_name=name)
    known = {(srv.uri.hostname or "", srv.uri.port): srv for srv in pool}
    kept = [srv for key, srv in known.items() if key in found or not srv.discovered or srv is current]
    return kept + [srv for key, srv in found.items() if key not in known]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True

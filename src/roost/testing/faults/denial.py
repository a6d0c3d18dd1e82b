"""Rights that a running server takes away."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from roost.server.local import LocalServer
from roost.testing.faults._unavailable import FaultUnavailable


@contextmanager
def denied(
    server: LocalServer, *, publish: Sequence[str] = (), subscribe: Sequence[str] = ()
) -> Iterator[None]:
    """For the length of the block nobody may publish or subscribe to these subjects (wildcards as NATS has them).

    The server reloads its configuration, as after an administrator's change. It is one that began with rights for
    everybody, ``LocalServer(ServerOptions(extra_config=faults.RIGHTS))``, since a server cannot learn while it runs
    who those are that do not log in: FaultUnavailable otherwise. Raises ServerUnavailable when it refuses.
    """
    if RIGHTS not in server.options.extra_config:
        raise FaultUnavailable(
            "this server has no rights to take away: start it with ServerOptions(extra_config=faults.RIGHTS)"
        )
    before = server.options.extra_config
    server.reload(before.replace(RIGHTS, _rights(publish, subscribe)))
    try:
        yield
    finally:
        server.reload(before)


def _rights(publish: Sequence[str], subscribe: Sequence[str]) -> str:
    """Everybody is one user without a password, who may do all but this."""
    rules = {
        "publish": {"allow": [">"], "deny": list(publish)},
        "subscribe": {"allow": [">"], "deny": list(subscribe)},
    }
    user = {"user": "everybody", "password": "none", "permissions": rules}
    return f"authorization {{ users: {json.dumps([user])} }}\nno_auth_user: everybody"


RIGHTS = _rights((), ())
"""Configuration of a server whose rights `denied` can take away."""

"""On how many servers a log that Roost creates is kept: docs/decisions/013.

A log with one copy in a cluster stands still while its server is down, and is lost with its disk. Whoever connects
to a cluster expects neither, so there it has three, unless ROOST_REPLICAS says otherwise.
"""

from __future__ import annotations

import os

from roost._text import quoted
from roost.errors import ConfigError, JetStreamError
from roost.transport import Link
from roost.transport.jetstream import NO_PEERS

VARIABLE = "ROOST_REPLICAS"
ALLOWED = (1, 3, 5)
IN_A_CLUSTER = 3

# Error numbers of nats-server (server/errors.json).
NOT_CLUSTERED = 10074


def copies(link: Link) -> int:
    """ROOST_REPLICAS, else 3 in a cluster and 1 elsewhere. Raises ConfigError when it is not 1, 3 or 5."""
    text = os.environ.get(VARIABLE, "")
    if text:
        if text not in {str(one) for one in ALLOWED}:
            raise ConfigError(f"{VARIABLE} is {quoted(text)}; it must be 1, 3 or 5, or not be set")
        return int(text)
    info = link.client._server_info
    cluster = info.get("cluster", "")
    # A leaf node that stands alone calls itself a cluster, by its own name.
    return IN_A_CLUSTER if cluster and cluster != info.get("server_name") else 1


def explained(error: JetStreamError, wanted: int) -> JetStreamError:
    """The server's refusal to create a log, with what to do about it when there are too few servers."""
    if wanted == 1 or error.err_code not in (NO_PEERS, NOT_CLUSTERED):
        return error
    return JetStreamError(
        code=error.code,
        err_code=error.err_code,
        description=f"{error.description}; the log was to be kept on {wanted} servers: start the missing ones, or set "
        f"{VARIABLE}=1 and raise it later with `roost provision --replicas {wanted}`",
    )

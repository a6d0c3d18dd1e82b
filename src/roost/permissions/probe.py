"""What this user may do, asked of the server at the start, so that everything missing is said at once.

A subscription that is refused is told after a flush, a publish only when it is made: the first outcome of a worker
would be the one that cannot be stored. Nothing can be published harmlessly on every subject, but the server tells a
user its own permissions on ``$SYS.REQ.USER.INFO``, if it may ask that. If it may not, the start goes on, and what is
refused later is told then.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from roost.errors import PermissionDenied, RoostError
from roost.observe import Journal
from roost.permissions.rights import Granted, Rights, missing
from roost.permissions.roles import OWN
from roost.transport import Link

TIMEOUT_S = 2.0


async def check_rights(link: Link, needed: Rights, journal: Journal) -> None:
    """Raises PermissionDenied, which lists everything that is needed and not granted; NotConnected, Disconnected."""
    granted = await _granted(link, journal)
    if granted is None:
        return
    lacking = missing(needed, granted)
    if lacking:
        action, subject = lacking[0]
        raise PermissionDenied(subject, action, others=[(one, other) for other, one in lacking[1:]])


async def _granted(link: Link, journal: Journal) -> Granted | None:
    """None if it is not known, or everybody may do everything."""
    if not link.client._server_info.get("auth_required"):
        return None
    try:
        answer = await link.requests.ask(OWN, timeout_s=TIMEOUT_S)
        told: Any = json.loads(answer.data)
        data = told["data"]
        return Granted.of(data.get("permissions"))
    except (PermissionDenied, TimeoutError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error)
    except RoostError as error:
        if not link.client.is_connected:
            raise
        reason = str(error)
    journal.record("permissions_unknown", subject=OWN, reason=reason, level=logging.INFO)
    return None

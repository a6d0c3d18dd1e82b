"""The newest record under a pattern, as the stream's leader knows it.

A replica may lag behind: that it has no record says nothing. And a pattern costs the leader an index look-up,
whereas reading on from a sequence costs it a walk over everything that others have stored since.
"""

from __future__ import annotations

from base64 import b64decode

from roost.errors import JetStreamError
from roost.tasks.log import Log, Record

NO_MESSAGE = 10037


async def newest_under(log: Log, pattern: str) -> Record | None:
    """The newest record on subjects that match `pattern`. Raises the errors of a read."""
    try:
        answer = await log.link.jetstream.call(f"STREAM.MSG.GET.{log.stream}", {"last_by_subj": pattern})
    except JetStreamError as error:
        if error.err_code == NO_MESSAGE:
            return None
        raise
    message = answer["message"]
    return Record(
        message["subject"], int(message["seq"]), b64decode(message.get("data", "")), message.get("time", "")
    )

"""Pausing a contract: its consumer delivers nothing until a stated time, whoever pulls, and remembers that.

The server holds the pause, so it lasts through deaths of workers and of the server itself, and ends by itself. What
runs is finished, submissions go on. Deliveries that come back, for another attempt or from a process that died, wait
as the others do. (CONSUMER.PAUSE, since nats-server 2.11.)

There is one pause for each consumer, and an operator's must not be lifted by a program that paused for a reason of
its own. So a program that means to resume makes its pause with `pause_further`, which leaves a later one alone, and
ends it with `resume(only=...)`, which leaves any but that one alone. Both look first and then act; the server has no
compare-and-set for pauses, so one that an operator makes within that round trip is lost.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from roost.errors import ConfigError, JetStreamError
from roost.tasks.log import Log, parse_time
from roost.tasks.provision import consumer_name
from roost.transport.jetstream import CONSUMER_NOT_FOUND

FOREVER = "2200-01-01T00:00:00Z"
"""Until somebody resumes. The server counts the time that is left in 64 bits of nanoseconds, 292 years."""
LOOKS = 8
"""How often it is looked whether a pause is there, in 2.5 s; it never is if somebody else replaced it meanwhile."""
MOST_S = 100 * 365 * 86_400.0
"""The longest pause with an end, in seconds."""


async def pause(log: Log, name: str, for_s: float | None = None) -> str:
    """Pause the contract `name` for so many seconds, or until `resume`; another pause of it is replaced.

    Returns when it ends, as the server has it (RFC 3339). Raises ConfigError when the contract has no consumer, as
    no worker of it was ever started.
    """
    if for_s is not None and not 0 < for_s <= MOST_S:
        raise ConfigError(f"for_s = {for_s!r}: must be more than 0 and at most {MOST_S:.0f} seconds")
    return await _put(log, name, FOREVER if for_s is None else _stamp(log.now_s() + for_s))


async def pause_further(log: Log, name: str, for_s: float) -> str:
    """Pause for so many seconds, unless there is a pause that lasts longer: then "" is returned, and it stays."""
    until_s = log.now_s() + for_s
    there = paused_until(await _info(log, name))
    return await _put(log, name, _stamp(until_s)) if not there or parse_time(there) < until_s else ""


async def resume(log: Log, name: str, *, only: str = "") -> bool:
    """End the pause of a contract, or `only` the one that ends at this time; whether there was one to be ended.

    The server delivers again when it next looks at its open pulls: within the 2 s of their heartbeats.
    """
    there = paused_until(await _info(log, name))
    if not there or (only and there != only):
        return False
    await _put(log, name, "")
    return True


def paused_until(info: Any) -> str:
    """When the pause ends (RFC 3339) of which a consumer's information tells; empty if it is not paused."""
    return str(info["config"].get("pause_until") or "") if info.get("paused") else ""


async def _put(log: Log, name: str, until: str) -> str:
    """Set or end the pause, and wait until the consumer shows it: in a cluster the answer comes before that."""
    answer = await _call(log, name, "PAUSE", {"pause_until": until} if until else {})
    ends = str(answer["pause_until"]) if until else ""
    for look in range(LOOKS):
        if (await _info(log, name))["config"].get("pause_until", "") == ends:
            break
        await asyncio.sleep(0.01 * 2**look)
    return ends


async def _info(log: Log, name: str) -> Any:
    return await _call(log, name, "INFO")


async def _call(log: Log, name: str, verb: str, body: dict[str, Any] | None = None) -> Any:
    try:
        return await log.link.jetstream.call(f"CONSUMER.{verb}.{log.stream}.{consumer_name(name)}", body)
    except JetStreamError as error:
        if error.err_code != CONSUMER_NOT_FOUND:
            raise
        raise ConfigError(
            f"no worker of {name!r} was ever started in namespace {log.subjects.namespace}, so there is nothing to "
            "pause or to resume; `roost tasks ls` lists what there is"
        ) from error


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")

"""What `roost doctor` looks for behind work that goes nowhere: a store that takes no writes, deadlines that nobody
enforces, runs that are parked.
"""

from __future__ import annotations

from roost._text import clean
from roost.bus import Bus
from roost.cli._checks import Check, listed
from roost.errors import JetStreamError, NoResponders, RequestTimeout, StreamMissing
from roost.runs.listing import attend, parked_runs
from roost.tasks.reading import overdue
from roost.transport.jetstream import STORE_FULL

WRITE_S = 3.0
"""Seconds that the server has to acknowledge a record of this size."""
PROBE_BYTES = 32_768
"""More than a full disk has left: a file's last block, of 4 KiB mostly, takes small records still."""
RETRY_S = 10.0
"""So many seconds behind its deadline a task has its outcome, if anybody does the upkeep."""


async def writes(bus: Bus) -> Check:
    """Whether a record is taken. It is the only way to know: a server without room answers all other questions.

    It stands where no record of a run is, and is removed; what a doctor that was killed left is removed first, which
    also tells whether this user may remove it.
    """
    call, name = bus.link.jetstream.call, "writes"
    subject = f"{bus.namespace}.run.doctor.probe"
    purge, whole = f"STREAM.PURGE.{bus.log.stream}", {"filter": subject}
    waits = "accepted work is kept, and waits"
    broken = "look at the server's log: a full or broken disk? Make room, and start the server again"
    try:
        await call(purge, whole)
        await bus.link.jetstream.publish(subject, b" " * PROBE_BYTES, timeout_s=WRITE_S)
        await call(purge, whole)
    except JetStreamError as error:
        text = f"the server refuses writes: {clean(error.description, 200)} (error {error.err_code}); {waits}"
        full = (
            "enlarge max_bytes of the log, or if that is not reached the server's max_file_store, the account's share "
            "or the disk"
        )
        advice = full if error.err_code in STORE_FULL else broken
        return Check(name=name, verdict="fail", found=text, advice=advice)
    except RequestTimeout:
        text = f"no write was acknowledged within {WRITE_S:g} s; {waits}"
        return Check(name=name, verdict="fail", found=text, advice=broken)
    except (NoResponders, StreamMissing):
        advice = "start the servers that are down: most of them are needed"
        return Check(name=name, verdict="fail", found=f"nobody takes them; {waits}", advice=advice)
    return Check(name=name, verdict="ok", found="a record was taken, and removed again")


async def deadlines(bus: Bus) -> Check:
    """Tasks that should have ended by themselves: some process has to do that."""
    await attend(bus.log)
    late = [clean(str(ref), 80) for ref in await overdue(bus.log, behind_s=RETRY_S)]
    if late:
        text = f"{len(late):,} past their deadline and open: {listed(late)}"
        advice = "no process does upkeep: start agents, or `roost upkeep` where theirs may not"
        return Check(name="deadlines", verdict="fail", found=text, advice=advice)
    return Check(name="deadlines", verdict="ok", found="nothing is overdue")


async def runs(bus: Bus) -> Check:
    """Runs that only a person can help."""
    parked = [clean(one.id, 80) for one in await parked_runs(bus.log)]
    if parked:
        text = f"{len(parked):,} parked, as their record does not fit the code: {listed(parked)}"
        advice = "`roost runs ls` has the reasons: deploy code that fits, or fork the run"
        return Check(name="runs", verdict="fail", found=text, advice=advice)
    return Check(name="runs", verdict="ok", found="none is parked")

"""A record that says that a task may run now becomes the delivery of that task, as the log has it."""

from __future__ import annotations

from roost.tasks.delivery import Delivery
from roost.tasks.log import Log, Record
from roost.tasks.outcomes import HandBack

LAG_S = 0.25
"""Seconds after which a task is asked for again that this server's replica does not have yet."""


async def adopt(log: Log, delivery: Delivery) -> tuple[bool, Record | None]:
    """Make of the delivery of a turn or a wake that of its task, if that is to run; else its outcome, if it has one.

    A task without either was cancelled or removed. Raises HandBack, and the errors of reads.
    """
    task, end = log.subjects.task(delivery.ref), log.subjects.end(delivery.ref)
    found = {
        log.record_of(one).subject: one
        for one in await log.link.jetstream.read(log.stream, {"multi_last": [task, end]})
    }
    if end in found:
        return False, log.record_of(found[end])
    if task not in found:
        if await log.last(task, leader=True) is not None:
            raise HandBack("its task is not to be seen here yet", LAG_S)
        return False, None
    record = log.record_of(found[task])
    delivery.adopt(found[task], record.subject, record.seq, record.stored_s)
    return True, None

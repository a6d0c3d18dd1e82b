"""What a user needs who does the upkeep of a namespace. Pure.

Which record is removed stands in the payload, where no permission reaches, so whoever may remove one may remove all of
the log: an agent with least privilege does no upkeep.
"""

from __future__ import annotations

from roost.permissions import OWN, Rights
from roost.tasks.deadlines import SWEEPER
from roost.tasks.records import Subjects
from roost.tasks.references import objects_stream
from roost.upkeep.names import HOLDER, lease_stream, lease_subject


def keeping(namespace: str, inbox: str) -> Rights:
    """Rights for the lease and for all duties."""
    log, lease = Subjects(namespace).stream, lease_stream(namespace)
    api = "$JS.API"
    prune, overdue, holds = "prune", "overdue work", "the lease of upkeep"
    return Rights(
        publish={
            OWN: "start",
            f"{api}.STREAM.INFO.{log}": "the log",
            f"{api}.DIRECT.GET.{log}": "the log",
            f"{api}.STREAM.MSG.GET.{log}": "the log",
            f"{api}.DIRECT.GET.{log}.{namespace}.run.>": overdue,
            f"{api}.CONSUMER.INFO.{log}.{SWEEPER}": overdue,
            f"{api}.CONSUMER.CREATE.{log}.{SWEEPER}.>": overdue,
            f"{api}.CONSUMER.MSG.NEXT.{log}.{SWEEPER}": overdue,
            f"$JS.ACK.{log}.{SWEEPER}.>": overdue,
            f"$JS.ACK.*.*.{log}.{SWEEPER}.>": overdue,
            **{f"{namespace}.run.*.{kind}": overdue for kind in ("end.*.*", "dead.*.*", "epoch", "state")},
            f"{api}.CONSUMER.LIST.{log}": prune,
            f"{api}.STREAM.MSG.DELETE.{log}": prune,
            **{f"{api}.STREAM.{verb}.{objects_stream(namespace)}": prune for verb in ("INFO", "PURGE")},
            f"{api}.STREAM.CREATE.{lease}": holds,
            f"{api}.CONSUMER.CREATE.{lease}.{HOLDER}.{lease_subject(namespace)}": holds,
            f"{api}.CONSUMER.INFO.{lease}.{HOLDER}": holds,
            f"{api}.CONSUMER.MSG.NEXT.{lease}.{HOLDER}": holds,
            f"$JS.ACK.{lease}.{HOLDER}.>": holds,
            f"$JS.ACK.*.*.{lease}.{HOLDER}.>": holds,
            lease_subject(namespace): holds,
        },
        subscribe={f"{inbox}.>": "answers"},
    )

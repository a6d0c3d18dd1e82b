"""Who has still to read an outcome: the consumers of reporters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from roost.tasks.log import Log
from roost.upkeep.ledger import Run

PREFIX = "report_"
"""Names of reporters' consumers begin so (`roost.tasks.provision.Reported`)."""


@dataclass(frozen=True, slots=True)
class _Place:
    durable: str
    run: str  # "*" for all
    name: str  # of the contract
    floor: int  # all outcomes up to this one have been read


class Readers:
    """The reporters of one namespace, as they stood when they were first asked about."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._places: list[_Place] | None = None

    async def behind(self, run: Run) -> list[str]:
        """The consumers that have not read all outcomes of a run. Raises the errors of requests."""
        if self._places is None:
            self._places = await self._list()
        return [
            one.durable
            for one in self._places
            if one.run in ("*", run.name) and run.ends.get(one.name, 0) > one.floor
        ]

    async def _list(self) -> list[_Place]:
        found: list[_Place] = []
        offset = 0
        while True:
            page = await self._log.link.jetstream.call(
                f"CONSUMER.LIST.{self._log.stream}", {"offset": offset}
            )
            consumers = page["consumers"] or ()
            found += [place for one in consumers if (place := _place(one)) is not None]
            offset += len(consumers)
            if not consumers or offset >= int(page["total"]):
                return found


def _place(info: Any) -> _Place | None:
    words = str(info["config"].get("filter_subject", "")).split(".")
    unread = int(info["num_pending"]) + int(info["num_ack_pending"])
    if not info["name"].startswith(PREFIX) or len(words) < 5 or not unread:
        return None
    return _Place(info["name"], words[2], words[4], int(info["ack_floor"]["stream_seq"]))

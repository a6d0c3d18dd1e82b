"""Who got which message, cell by cell, and whether that is what the server said. Pure.

A plain subscription must have got every message that the server named it for, and no other. Of a queue group one
member must have got each; which one is the server's choice. What the server named and the picture has not, such as
somebody else's subscription, is told and is no difference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from roost._text import clean
from roost.observe import Explanation, Receiver
from roost.pictures._words import counted

Subscription: TypeAlias = "tuple[str, str | None]"
"""Its pattern and its queue group: "" if it is in none, None if that was not said."""
Group: TypeAlias = "tuple[str, str]"
"""Account and name of a queue group."""
Look = Literal["got", "none", "could", "missing", "surplus"]
"""got, none: as it should be. could: another member of its group got it. missing, surplus: not as the server said."""


@dataclass(frozen=True, slots=True)
class Cell:
    arrived: int
    look: Look


@dataclass(frozen=True, slots=True)
class Row:
    """One subject, sent so many times."""

    subject: str
    sent: int
    cells: tuple[Cell, ...]
    checked: bool
    differences: tuple[str, ...] = ()
    others: int = 0
    """Subscriptions that the server named and that are not in the picture."""

    @property
    def verdict(self) -> str:
        return "differs" if self.differences else "agrees" if self.checked else "not checked"


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    pattern: str
    queue: str


@dataclass(frozen=True, slots=True)
class Matrix:
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    @property
    def differences(self) -> tuple[str, ...]:
        return tuple(one for row in self.rows for one in row.differences)

    @property
    def agrees(self) -> bool:
        return bool(self.rows) and all(row.checked and not row.differences for row in self.rows)

    def summary(self) -> list[str]:
        messages = sum(row.sent for row in self.rows)
        parts = [counted(messages, "message"), counted(len(self.columns), "subscription")]
        parts.append(
            counted(sum(cell.arrived for row in self.rows for cell in row.cells), "delivery", "deliveries")
        )
        checked = sum(row.checked for row in self.rows)
        if not checked:
            return [*parts, "not checked against the server"]
        wrong = len(self.differences)
        said = (
            counted(wrong, "difference") + " from what the server said" if wrong else "all as the server said"
        )
        if checked < len(self.rows):
            said += f", {checked} of {counted(len(self.rows), 'subject')} checked"
        return [*parts, said]

    @property
    def besides(self) -> str:
        """That the server named subscriptions which are not in the picture; empty if it did not."""
        others = max((row.others for row in self.rows), default=0)
        what = counted(others, "subscription that is", "subscriptions that are")
        return f"Besides, the server named {what} not in this picture." if others else ""

    def tale(self) -> list[str]:
        """All of it in words, a sentence for each row and for each difference."""
        told = []
        for row in self.rows:
            got = [
                column.name + (f" ({cell.arrived} times)" if cell.arrived > 1 else "")
                for column, cell in zip(self.columns, row.cells, strict=True)
                if cell.arrived
            ]
            told.append(f"{row.subject} reached {', '.join(got) or 'nobody'}: {row.verdict}.")
        return [*told, *self.differences, *([self.besides] if self.besides else [])]


def matrix(
    subscriptions: Mapping[str, Subscription],
    messages: Sequence[str],
    arrived: Iterable[tuple[str, str]],
    explained: Iterable[Explanation],
) -> Matrix:
    """Compare what arrived, as (subject, name), with what the server said of each subject."""
    sent, counts = Counter(messages), Counter(arrived)
    said = {one.subject: one for one in explained}
    queues: dict[str, str] = {name: queue or "" for name, (_, queue) in subscriptions.items()}
    rows = []
    for subject, times in sent.items():
        got = {name: counts[subject, name] for name in subscriptions}
        explanation = said.get(subject)
        if explanation is None:
            cells = tuple(Cell(count, "got" if count else "none") for count in got.values())
            rows.append(Row(subject, times, cells, checked=False))
            continue
        named, others = _named(subscriptions, explanation)
        queues |= {name: one.queue for name, one in named.items() if one.queue}
        open_groups = {_group(one) for one in others if one.queue}
        rows.append(_row(subject, times, got, named, open_groups, len(others)))
    columns = tuple(Column(name, pattern, queues[name]) for name, (pattern, _) in subscriptions.items())
    return Matrix(columns, tuple(rows))


def _named(
    subscriptions: Mapping[str, Subscription], explanation: Explanation
) -> tuple[dict[str, Receiver], list[Receiver]]:
    """Which of the subscriptions the server named, and whom it named besides.

    A name that is the client's goes first. Two subscriptions of one connection with one pattern cannot be told apart
    by what the server says, so these are taken in their order; members of one group on one connection are one there.
    """
    left = list(explanation.receivers)
    named: dict[str, Receiver] = {}
    known = set(subscriptions)
    for by_client in (True, False):
        for name, (pattern, queue) in subscriptions.items():
            if name in named:
                continue
            for one in left:
                fits = one.pattern == pattern and queue in (None, one.queue)
                if fits and (one.client == name or not by_client):
                    named[name] = one
                    left.remove(one)
                    break
    for name, (pattern, queue) in subscriptions.items():
        same = [
            one
            for one in named.values()
            if one.queue and one.pattern == pattern and queue in (None, one.queue)
        ]
        shared = [one for one in same if one.client not in known]
        if name not in named and shared:
            named[name] = shared[0]
    return named, left


def _group(one: Receiver) -> Group:
    return one.account, one.queue


def _row(
    subject: str,
    sent: int,
    got: Mapping[str, int],
    named: Mapping[str, Receiver],
    open_groups: set[Group],
    others: int,
) -> Row:
    looks: dict[str, Look] = {}
    differences = []
    groups: dict[Group, list[str]] = {}
    for name, count in got.items():
        receiver = named.get(name)
        if receiver is not None and receiver.queue:
            groups.setdefault(_group(receiver), []).append(name)
            continue
        due = sent if receiver is not None else 0
        looks[name] = _look(count, due)
        if count != due:
            differences.append(_sentence(subject, name, count, due))
    for group, names in groups.items():
        total = sum(got[name] for name in names)
        late = total < sent and group not in open_groups
        for name in names:
            idle: Look = "missing" if late else "could"
            looks[name] = idle if not got[name] else "surplus" if total > sent else "got"
        if late or total > sent:
            differences.append(_sentence(subject, f"queue group {group[1]}", total, sent))
    cells = tuple(Cell(count, looks[name]) for name, count in got.items())
    return Row(subject, sent, cells, True, tuple(differences), others)


def _look(count: int, due: int) -> Look:
    if count == due:
        return "got" if count else "none"
    return "missing" if count < due else "surplus"


def _sentence(subject: str, who: str, count: int, due: int) -> str:
    if not count:
        said = "got nothing, though the server named it"
    elif not due:
        said = f"got it {_times(count)}, though the server did not name it"
    else:
        said = f"got it {_times(count)}, though it was sent {_times(due)}"
    return clean(f"{subject}: {who} {said}.", 400)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"

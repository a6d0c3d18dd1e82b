"""Who sent what to whom: three columns of nodes, the lines between them, and where each stands. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from roost._text import clean
from roost.pictures._lanes import natural
from roost.pictures._words import counted

Hop: TypeAlias = tuple[str, str, str]
"""Sender, subject, receiver; the receiver is empty when nobody was there."""

MOST = 12
"""Nodes in a column; when there are more, those with least become one."""
WAYS = 40
"""Ways that are told one by one; of more, those that most went."""
NOBODY = "nobody"
_COLUMNS = ("sender", "subject", "receiver")


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    count: int
    together: int = 0
    """How many names it stands for; 0 if it stands for itself."""
    nobody: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """From a node of one column to a node of the next, both by their place in it."""

    start: int
    end: int
    count: int


@dataclass(frozen=True, slots=True)
class Flow:
    columns: tuple[tuple[Node, ...], ...]
    lines: tuple[tuple[Line, ...], tuple[Line, ...]]
    hops: tuple[tuple[Hop, int], ...]
    names: tuple[int, int, int]

    @property
    def messages(self) -> int:
        return sum(count for _, count in self.hops)

    def summary(self) -> list[str]:
        parts = [counted(self.messages, "message")]
        parts += [counted(names, word) for names, word in zip(self.names, _COLUMNS, strict=True)]
        unheard = sum(count for (_, _, receiver), count in self.hops if not receiver)
        if unheard:
            parts.append(f"{unheard:,} to {NOBODY}")
        if any(node.together for column in self.columns for node in column):
            parts.append("those with least drawn together")
        return parts

    def tale(self) -> list[str]:
        """Each way with its count; the rest is counted."""
        told = [
            f"{clean(sender)} → {clean(subject)} → {clean(receiver) or NOBODY}: {count:,}"
            for (sender, subject, receiver), count in self.hops[:WAYS]
        ]
        rest = self.hops[WAYS:]
        if rest:
            told.append(f"… and {counted(len(rest), 'more way')}: {sum(count for _, count in rest):,}")
        return told


def flow(hops: Mapping[Hop, int]) -> Flow:
    """Senders in the order in which they come; the others so that few lines cross."""
    totals = [Counter[str]() for _ in _COLUMNS]
    for hop, count in hops.items():
        for total, name in zip(totals, hop, strict=True):
            total[name] += count
    kept = [_kept(total) for total in totals]
    order: list[list[str]] = [[name for name in totals[0] if name in kept[0]]]
    for at in (1, 2):
        means = _between(hops, at - 1, order[at - 1])
        own = ((not name, means[name], natural(name), name) for name in kept[at])
        order.append([name for *_, name in sorted(own)])
    columns = tuple(
        _column(names, total, word) for names, total, word in zip(order, totals, _COLUMNS, strict=True)
    )
    first, second = (_lines(hops, order, at) for at in (0, 1))
    named = [sum(1 for name in total if name) for total in totals]
    ways = list(hops.items())
    if len(ways) > WAYS:
        ways.sort(key=lambda way: -way[1])
    return Flow(columns, (first, second), tuple(ways), (named[0], named[1], named[2]))


def _kept(total: Counter[str]) -> set[str]:
    """Names with a node of their own; what nobody got always has one."""
    if len(total) <= MOST:
        return set(total)
    kept = {name for name, _ in total.most_common(MOST - 1)}
    return kept | {""} if "" in total else kept


def _between(hops: Mapping[Hop, int], at: int, order: list[str]) -> dict[str, float]:
    """For each name of the column after `at` the mean place of those it is connected with."""
    place = {name: number for number, name in enumerate(order)}
    sums, counts = Counter[str](), Counter[str]()
    for hop in {(hop[at], hop[at + 1]) for hop in hops}:
        sums[hop[1]] += place.get(hop[0], len(order))
        counts[hop[1]] += 1
    return {name: sums[name] / counts[name] for name in counts}


def _column(names: list[str], total: Counter[str], word: str) -> tuple[Node, ...]:
    nodes = [Node(name or NOBODY, total[name], nobody=not name) for name in names]
    rest = [count for name, count in total.items() if name not in names]
    if rest:
        nodes.append(Node(counted(len(rest), f"more {word}"), sum(rest), together=len(rest)))
    return tuple(nodes)


def _lines(hops: Mapping[Hop, int], order: list[list[str]], at: int) -> tuple[Line, ...]:
    starts, ends = ({name: number for number, name in enumerate(names)} for names in order[at : at + 2])
    found = Counter[tuple[int, int]]()
    for hop, count in hops.items():
        found[starts.get(hop[at], len(starts)), ends.get(hop[at + 1], len(ends))] += count
    return tuple(Line(start, end, count) for (start, end), count in sorted(found.items()))

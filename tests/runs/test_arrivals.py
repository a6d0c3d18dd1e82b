"""Outcomes between the feed and a workflow: in order, each once, and never too many in memory."""

from __future__ import annotations

import random

from roost.runs.arrivals import MOST, Arrivals
from roost.tasks.log import Record


def record(seq: int) -> Record:
    return Record(f"s.{seq}", seq, b"")


def test_a_record_that_is_offered_twice_is_kept_once() -> None:
    arrivals = Arrivals()
    assert arrivals.offer(record(3))
    assert not arrivals.offer(record(3))
    assert not arrivals.offer(record(2))
    assert [one.seq for one in arrivals.records] == [3]


def test_what_is_too_much_is_read_again_from_the_first_that_was_missed() -> None:
    arrivals = Arrivals()
    for seq in range(1, MOST + 500):
        arrivals.offer(record(seq))
    assert len(arrivals.records) == MOST
    arrivals.records.clear()
    assert not arrivals.offer(record(9000)), "a later one would overtake those that were missed"
    assert arrivals.resume() == MOST + 1
    assert arrivals.resume() == 0
    assert arrivals.offer(record(MOST + 1))


def test_however_it_is_fed_and_drained_nothing_is_lost_doubled_or_moved(seed: int) -> None:
    chance = random.Random(seed)
    arrivals, position = Arrivals(), 1
    taken: list[int] = []
    total = 10_000
    while len(taken) < total:
        for _ in range(chance.randrange(800)):
            if position <= total:
                arrivals.offer(record(position))
                position += 1
        assert len(arrivals.records) <= MOST
        for _ in range(chance.randrange(900)):
            if arrivals.records:
                taken.append(arrivals.records.popleft().seq)
        if arrivals.few and (missed := arrivals.resume()):
            position = min(position, missed)
    assert taken == list(range(1, total + 1))

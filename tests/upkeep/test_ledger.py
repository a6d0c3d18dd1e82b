"""The ledger of runs, without a server: what it takes records for, and when a run is over."""

from __future__ import annotations

import pytest

from roost.errors import ConfigError
from roost.runs.records import inner_run
from roost.tasks.log import Record
from roost.tasks.records import Ref, Subjects
from roost.tasks.retention import Retention
from roost.upkeep.ledger import Ledger

STAMP = "1970-01-01T00:0{}:00Z"


class Book(Ledger):
    """Takes records by their subjects, one a minute from the epoch on."""

    def __init__(self, **retention: float) -> None:
        super().__init__(Subjects("ns"), Retention(**({"ended_s": 60.0} | retention)))
        self.seq = 0

    def read(self, *records: tuple[str, bytes] | str) -> None:
        for one in records:
            subject, data = one if isinstance(one, tuple) else (one, b"{}")
            self.seq += 1
            self.take(Record(f"ns.run.{subject}", self.seq, data, STAMP.format(self.seq)))

    def over(self, now_s: float = 10_000.0) -> list[str]:
        return [run.name for run in self.due(now_s)]


def test_a_run_is_over_when_each_of_its_tasks_has_an_outcome() -> None:
    book = Book()
    book.read("a.task.t.a", "a.note.t.a.1", "a.task.t.b", "a.end.t.a")
    assert book.over() == []
    book.read("a.end.t.b")
    assert book.over(5 * 60 + 59) == []
    assert book.over(5 * 60 + 60) == ["a"]
    assert book.over() == []  # once


def test_a_cancelled_task_without_a_record_of_it_is_over_and_one_begun_again_is_not() -> None:
    book = Book()
    book.read("a.end.t.a")
    book.read("b.end.t.b", "b.task.t.b")
    assert book.over() == ["a"]


def test_what_was_read_before_the_epoch_of_a_run_below_goes_with_the_one_above() -> None:
    ref = Ref("top", "below", "child")
    child = inner_run(ref)
    book = Book()
    book.read("top.task.plan.top", "top.task.below.child", f"{child}.signal.go")
    book.read((f"{child}.epoch", b'{"task":"top/below/child"}'), "top.end.below.child")
    assert book.over() == []
    book.read("top.end.plan.top")
    (top,) = book.due(10_000.0)
    assert [run.name for run in book.family(top)] == ["top", child]
    book.forget(top)
    assert book.runs == {}


def test_an_epoch_that_names_a_stranger_puts_nothing_below_it() -> None:
    book = Book()
    book.read("top.task.plan.top", ("x.epoch", b'{"task":"top/below/child"}'))
    for data in (b"[]", b"{", b'{"task":7}', b'{"task":"a/*/b"}'):
        book.read(("y.epoch", data))
    assert set(book.over()) == {"x", "y"}


def test_words_of_strangers_open_no_task_and_are_removed_by_their_numbers() -> None:
    book = Book()
    book.read("*.task.t.>", "a", "a.task", "a.end.t", "a::b.task.t.1", "::.queue.t.*.>", "a.b.c.d.e.f.g.h")
    assert set(book.over()) == {"a", "*"}  # one has the shape of a task in run a::b, which is open


def test_a_letter_that_was_replayed_needs_no_longer_life() -> None:
    book = Book(dead_s=6000.0)
    dead = b'{"status":"dead","token":"x"}'
    book.read("a.task.t.a", ("a.end.t.a", dead), "a.dead.t.a", "b.task.t.b", ("b.end.t.b", dead))
    assert book.over(1000.0) == []
    book.read(("a.dead.t.a", b'{"reason":"","replays":["a:r1"]}'))
    assert book.over(1000.0) == ["a"]
    assert book.over(5 * 60 + 6000.0) == ["b"]


@pytest.mark.parametrize("wrong", [{"ended_s": 0.0}, {"dead_s": 5.0}, {"ended_s": 9.0, "dead_s": 5.0}])
def test_a_retention_that_contradicts_itself_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="retention"):
        Retention(**wrong)


@pytest.mark.parametrize("text", ["soon", "nan", "-3", "inf"])
def test_metadata_of_strangers_removes_nothing(text: str) -> None:
    with pytest.raises(ConfigError):
        Retention.of({"metadata": {"roost.retention_s": text}})

"""The journal: nothing is counted without being told, and no flood of events becomes a flood of lines."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from roost.observe import Event, Journal


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == "roost"]


def test_an_event_is_counted_logged_and_told(caplog: pytest.LogCaptureFixture) -> None:
    journal, heard = Journal(), list[Event]()
    journal.watch(heard.append)
    journal.record("dropped", subject="team.ann.status", reason="the queue is full")
    assert journal.counters == {"dropped": 1}
    assert lines(caplog) == ["dropped team.ann.status the queue is full"]
    [event] = heard
    assert (event.kind, event.subject, event.reason) == ("dropped", "team.ann.status", "the queue is full")
    assert event.at_s > 1.7e9


def test_one_line_per_kind_and_second_and_it_says_how_many_had_none(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, journal, heard = Clock(monkeypatch), Journal(), list[Event]()
    journal.watch(heard.append)
    for number in range(1000):
        clock.now += 0.0005
        journal.record("dropped", reason=str(number))
    journal.record("refused", reason="of another kind")
    clock.now += 1
    journal.record("dropped", reason="later")
    assert lines(caplog) == [
        "dropped 0",
        "refused of another kind",
        "dropped later (999 more of these in the meantime)",
    ]
    assert len(heard) == 1002
    assert journal.counters == {"dropped": 1001, "refused": 1}


def test_at_the_end_the_events_without_a_line_are_summed_up(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    Clock(monkeypatch)
    journal = Journal()
    for _ in range(3):
        journal.record("dropped")
    journal.record("refused")
    journal.close()
    journal.close()
    assert lines(caplog) == ["dropped", "refused", "dropped: 2 more since the last line about them"]


def test_the_line_for_many_says_what_they_were_about(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, journal = Clock(monkeypatch), Journal()
    for number in range(25):
        journal.record("task_dead", subject=f"page:{number}")
    journal.record("task_dead", subject="page:7")
    clock.now += 1
    journal.record("task_dead", subject="page:x")
    journal.record("task_dead", subject="page:y")
    journal.close()
    named = ", ".join(f"page:{number}" for number in range(1, 21))
    assert lines(caplog) == [
        "task_dead page:0",
        f"task_dead page:x (25 more of these in the meantime: {named} and 4 more)",
        "task_dead: 1 more since the last line about them: page:y",
    ]


async def test_what_had_no_line_is_told_when_the_second_is_over_and_no_other_event_comes(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roost.observe.journal.LOG_INTERVAL_S", 0.02)
    told = asyncio.Event()

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "since the last line" in record.getMessage():
                told.set()

    ear = Ear()
    logging.getLogger("roost").addHandler(ear)
    try:
        journal = Journal()
        for id in ("a", "b"):
            journal.record("task_handed_back", subject=id, level=logging.ERROR)
        async with asyncio.timeout(10):
            await told.wait()
    finally:
        logging.getLogger("roost").removeHandler(ear)
    assert lines(caplog) == [
        "task_handed_back a",
        "task_handed_back: 1 more since the last line about them: b",
    ]
    assert caplog.records[-1].levelname == "ERROR"
    journal.close()
    assert len(lines(caplog)) == 2


def test_lines_about_a_server_that_stays_away_become_rare_until_it_is_back(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, journal = Clock(monkeypatch), Journal()

    def away(seconds: int) -> int:
        before = len(lines(caplog))
        for _ in range(seconds):
            journal.record("reconnect_failed", reason="refused")
            clock.now += 1
        return len(lines(caplog)) - before

    assert away(300) == 14  # after 1, 2, 4, 8, 16 seconds, then every 30
    journal.record("reconnected", level=logging.INFO)
    assert lines(caplog)[-1] == "reconnect_failed: 28 more since the last line about them"
    assert away(1) == 1, "the first of a new outage has a line at once"
    assert journal.counters["reconnect_failed"] == 301


def test_several_at_once_are_counted_as_several() -> None:
    journal, heard = Journal(), list[Event]()
    journal.watch(heard.append)
    journal.record("dropped", reason="7 unfinished", by=7)
    assert journal.counters["dropped"] == 7
    assert len(heard) == 1


@pytest.mark.parametrize("fault", [ValueError("mine"), asyncio.CancelledError(), RecursionError()])
def test_a_watcher_that_raises_keeps_nobody_from_hearing(
    fault: BaseException, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    Clock(monkeypatch)

    def broken(event: Event) -> None:
        raise fault

    journal, heard = Journal(), list[Event]()
    journal.watch(broken)
    journal.watch(heard.append)
    for _ in range(100):
        journal.record("dropped")
    assert len(heard) == 100
    assert journal.counters == {"dropped": 100, "watcher_failed": 100}
    assert len([line for line in lines(caplog) if "a watcher of events failed" in line]) == 1


def test_a_watcher_is_told_until_its_watch_is_ended() -> None:
    journal, heard = Journal(), list[Event]()
    end, end_again = journal.watch(heard.append), journal.watch(heard.append)
    journal.record("one")
    end()
    end()
    journal.record("two")
    end_again()
    journal.record("three")
    assert [event.kind for event in heard] == ["one", "one", "two"]


def test_a_watcher_may_end_its_own_watch() -> None:
    journal, heard = Journal(), list[str]()

    def once(event: Event) -> None:
        heard.append(event.kind)
        end()

    end = journal.watch(once)
    journal.watch(lambda event: heard.append("other"))
    journal.record("one")
    journal.record("two")
    assert heard == ["one", "other", "other"]


def test_text_of_strangers_forges_no_line_and_fills_no_disk(caplog: pytest.LogCaptureFixture) -> None:
    journal, heard = Journal(), list[Event]()
    journal.watch(heard.append)
    journal.record("refused", subject="a\r\nb" * 500, reason="\x1b[2J\u202e" + "x" * 100_000)
    [line] = lines(caplog)
    assert line.isprintable()
    assert len(line) < 1400
    assert heard[0].subject.isprintable()
    assert heard[0].reason.startswith("\\x1b[2J\\u202e")


def test_the_traceback_of_an_error_is_in_the_line_that_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal()
    try:
        raise ValueError("boom")
    except ValueError as error:
        journal.record("handler_failed", reason=str(error), error=error)
        journal.record("handler_failed", reason=str(error), error=error)
    assert caplog.text.count("Traceback") == 1


def test_a_level_below_a_warning_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal()
    with caplog.at_level(logging.DEBUG, "roost"):
        journal.record("handed_back", level=logging.DEBUG)
    assert [record.levelname for record in caplog.records] == ["DEBUG"]


def test_what_is_normal_is_counted_only(caplog: pytest.LogCaptureFixture) -> None:
    journal, heard = Journal(), list[Event]()
    journal.watch(heard.append)
    journal.count("handled:hello")
    journal.count("handled:hello", 2)
    assert journal.counters == {"handled:hello": 3}
    assert (lines(caplog), heard) == ([], [])

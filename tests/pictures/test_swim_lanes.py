"""Histories become lanes: who ran what, what it waited for, how it ended. Odd records do no harm."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
from tales import attempt, many, task, three

from roost.pictures._lanes import Span, busy, pack, peak, profile, scene
from roost.pictures._tracks import CHARACTERS, MAX_LANES, PIXELS, plan

spans = st.lists(
    st.tuples(st.integers(0, 800), st.integers(0, 160)).map(
        lambda one: Span(one[0] / 8, (one[0] + one[1]) / 8)
    ),
    max_size=40,
)


def test_each_instance_has_a_lane_in_natural_order_and_what_nobody_began_comes_last() -> None:
    tasks = [task(str(n), 0, 1, attempt(1, f"digest-{n}", 0, 1)) for n in (10, 2, 1)]
    tasks.append(task("waits", 0, None, status="open"))
    assert [lane.name for lane in scene(tasks).lanes] == ["digest-1", "digest-2", "digest-10", ""]


def test_a_retry_shows_its_backoff_in_the_lane_that_ran_it_again() -> None:
    first, second, third = scene(three()).lanes
    again = first.strands[1]
    assert again.before is not None
    assert again.before.kind == "backoff"
    assert again.bar is not None
    assert again.bar.number == 2
    assert (round(again.before.span.start, 3), round(again.before.span.end, 3)) == (0.2, 0.6)
    assert [bar.kind for bar in second.bars] == ["failed"]
    assert [bar.kind for bar in third.bars] == ["failed", "dead"]
    assert [strand.died is not None for strand in third.strands] == [False, True]


def test_an_attempt_whose_process_died_lasts_until_the_next_one_begins() -> None:
    tale = task("a", 0, 2, attempt(1, "w-1", 0.5, None, "lost"), attempt(2, "w-2", 1.5, 2))
    lost = scene([tale]).lanes[0].bars[0]
    assert (lost.kind, lost.span.end) == ("lost", 1.5)


def test_an_attempt_still_running_is_drawn_to_the_present() -> None:
    tale = task("a", 0, None, attempt(1, "w-1", 0.5, None, "running"), status="open")
    shown = scene([tale], until_s=1_700_000_009.0)
    assert shown.lanes[0].bars[0].span == Span(0.5, 9.0)
    assert (shown.counts.running, shown.counts.open) == (1, 0)


def test_a_task_that_died_unbegun_has_its_death_among_the_unbegun() -> None:
    shown = scene([task("a", 0, 3, status="dead")])
    assert shown.lanes[0].name == ""
    assert shown.lanes[0].strands[0].died == 3


def test_counts_are_those_of_the_records() -> None:
    counts = scene(three()).counts
    assert (counts.tasks, counts.done, counts.dead, counts.retries) == (3, 2, 1, 2)
    assert round(counts.seconds, 6) == 1.2


def test_times_that_no_calendar_bears_are_clamped() -> None:
    tale = task("a", 1e300, -1e300, attempt(1, "w", float("nan"), float("inf"), "done"))
    shown = scene([tale])
    assert 0 <= shown.span_s < 3e11
    assert all(0 <= bar.span.start <= bar.span.end for lane in shown.lanes for bar in lane.bars)


@settings(deadline=None)
@given(spans)
def test_packing_lets_nothing_touch_in_a_row(given_spans: list[Span]) -> None:
    rows = pack(given_spans, gap=0.5, least=1.0, limit=1000)
    assert rows is not None
    for row in set(rows):
        own = sorted(
            (one for one, r in zip(given_spans, rows, strict=True) if r == row), key=lambda one: one.start
        )
        for left, right in itertools.pairwise(own):
            assert left.start + max(left.length, 1.0) + 0.5 <= right.start + 1e-9


def test_packing_says_when_there_are_too_few_rows() -> None:
    assert pack([Span(0, 1)] * 3, gap=0, least=0, limit=2) is None
    assert pack([Span(0, 1)] * 3, gap=0, least=0, limit=3) == [0, 1, 2]


@settings(deadline=None)
@given(spans, st.integers(1, 50))
def test_a_profile_holds_all_of_the_time_worked(given_spans: list[Span], columns: int) -> None:
    means = profile(given_spans, columns=columns, span_s=120.0)
    worked = sum(means) * 120.0 / columns
    assert abs(worked - sum(one.length for one in given_spans)) < 1e-6


@settings(deadline=None)
@given(spans)
def test_peak_and_busy_agree_with_counting_by_hand(given_spans: list[Span]) -> None:
    edges = sorted({one.start for one in given_spans} | {one.end for one in given_spans})
    middles = [((a + b) / 2, b - a) for a, b in itertools.pairwise(edges)]
    at_once = [(sum(one.start < at < one.end for one in given_spans), length) for at, length in middles]
    assert peak(one for one in given_spans if one.length > 0) == max((n for n, _ in at_once), default=0)
    assert abs(busy(given_spans, 120.0) - sum(length for n, length in at_once if n) / 120.0) < 1e-9


def test_few_tasks_are_bars_with_their_waiting_and_thousands_are_profiles() -> None:
    few = plan(scene(three()), extent=700, grain=PIXELS)
    assert few.waits
    assert all(track.placed is not None for track in few.tracks)
    thousands = plan(scene(many(5000, 4)), extent=700, grain=PIXELS)
    assert not thousands.waits
    assert all(track.placed is None for track in thousands.tracks)
    assert all(
        track.placed is None for track in plan(scene(many(300, 2)), extent=50, grain=CHARACTERS).tracks
    )


def test_too_many_instances_share_a_lane_and_none_is_lost() -> None:
    shown = plan(scene(many(500, 100, at_once=1)), extent=700, grain=PIXELS)
    assert len(shown.tracks) == MAX_LANES
    assert sum(track.instances for track in shown.tracks) == 100
    bars = sum(len(track.lane.bars) for track in shown.tracks)
    assert bars == sum(len(one.attempts) for one in many(500, 100, at_once=1))

"""The Mermaid text is a Gantt chart: a section per instance, a bar per attempt, and of many attempts a sum."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tales import T0, attempt, many, of_run, step, task, three

from roost.pictures import Timeline
from roost.tasks.history import TaskHistory

BAR = re.compile(r"    ([^:;#\n]+) :((?:crit|done|active|milestone), )*(\d+), (\d+)")


def sections(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.split("\n"):
        if line.startswith("    section "):
            bars = found.setdefault(line.removeprefix("    section "), [])
        elif BAR.fullmatch(line):
            bars.append(line.strip())
    return found


def test_each_attempt_is_a_bar_with_its_waiting_in_the_section_of_its_instance() -> None:
    found = sections(Timeline(three(), "Three").mermaid())
    assert list(found) == ["digest-1", "digest-2", "links-1"]
    assert [bar.partition(" :")[0] for bar in found["digest-1"]] == [
        "digest a in the queue",
        "digest a",
        "digest b backing off",
        "digest b attempt 2",
    ]
    assert [bar.partition(" :")[2].partition(", 1")[0] for bar in found["links-1"]] == [
        "done",
        "crit",
        "done",
        "crit",
        "crit, milestone",
    ]
    begin = int(T0 * 1000)
    assert found["digest-1"][1] == f"digest a :{begin + 100}, {begin + 300}"
    assert found["links-1"][-1] == f"digest c dead letter :crit, milestone, {begin + 1200}, {begin + 1201}"


def test_a_lost_attempt_lasts_until_the_next_and_a_resumed_run_is_called_so() -> None:
    tale = [
        task("a", 0, 2, attempt(1, "w-1", 0.5, None, "lost"), attempt(2, "w-2", 1.5, 2)),
        of_run("r", 0, 3, attempt(1, "p-1", 0, 1, "lost"), attempt(2, "p-2", 1, 3)),
        step("scan", "p-1", 0.1, 0.4),
    ]
    found = sections(Timeline(tale).mermaid())
    begin = int(T0 * 1000)
    assert f"digest a lost :crit, {begin + 500}, {begin + 1500}" in found["w-1"]
    assert f"run audit r taken over :crit, done, {begin}, {begin + 1000}" in found["p-1"]
    assert f"step scan :{begin + 100}, {begin + 400}" in found["p-1"]
    assert f"run audit r resumed :done, {begin + 1000}, {begin + 3000}" in found["p-2"]


def test_what_nobody_began_has_a_section_of_its_own() -> None:
    found = sections(Timeline([task("a", 0, None, status="open"), *three()]).mermaid())
    assert [bar.partition(" :")[0] for bar in found["no attempt"]] == ["digest a in the queue"]


@pytest.mark.parametrize(("tasks", "instances"), [(5000, 4), (400, 60)])
def test_many_attempts_are_summed_up_and_none_is_left_out(tasks: int, instances: int) -> None:
    tale = many(tasks, instances)
    text = Timeline(tale).mermaid()
    bars = [bar for one in sections(text).values() for bar in one]
    assert len(bars) <= 200
    assert len(text) < 20_000
    counted = sum(int(n) for bar in bars for n in re.findall(r"(\d+) \w+", bar.partition(" :")[0]))
    assert counted == sum(len(one.attempts) for one in tale)
    dead = sum(int(n) for bar in bars for n in re.findall(r"(\d+) dead", bar.partition(" :")[0]))
    assert dead == sum(one.status == "dead" for one in tale)
    assert "attempts that ended about the same time are one bar" in text


words = st.text(max_size=30)
histories = st.lists(
    st.builds(
        lambda id, by, name, times, result, status: task(
            id, 0, times, attempt(1, by, 0.1, times, result), status=status, name=name
        ),
        words,
        words,
        words,
        st.one_of(st.none(), st.floats(0, 10)),
        st.sampled_from(["done", "failed", "lost", "running"]),
        st.sampled_from(["open", "done", "dead", "cancelled"]),
    ),
    max_size=6,
)


@settings(deadline=None)
@given(histories, words)
def test_nothing_in_a_log_can_break_the_chart(tasks: list[TaskHistory], title: str) -> None:
    lines = Timeline(tasks, title).mermaid().split("\n")
    assert lines[0] == "gantt"
    kinds = ("accDescr: ", "title ", "dateFormat x", "axisFormat %H", "section ")
    for line in lines[1:]:
        begin = next((kind for kind in kinds if line.startswith(f"    {kind}")), "")
        assert begin or BAR.fullmatch(line), line
        assert line.isprintable()
        if begin in ("title ", "section "):
            assert not set(":;#%{}\"'<>`\\") & set(line), line

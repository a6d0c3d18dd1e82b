"""The picture is one well-formed, silent file; nothing in it overlaps or is left out; foreign text stays text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tales import attempt, many, of_run, resumed, task, three

from roost.pictures import Timeline
from roost.pictures._svg import fit, stylesheet, width
from roost.pictures._timeline_text import cells
from roost.tasks.history import TaskHistory

SVG = "{http://www.w3.org/2000/svg}"
EVIL = '<script>alert(1)</script> & "quotes" \x1b[31m \x00 ]]> \u202e end'

CASES: dict[str, list[TaskHistory]] = {
    "nothing": [],
    "three": three(),
    "resumed": resumed(),
    "many runs": [
        *many(2000, 3),
        *(
            of_run(f"r{n}", 0, 9, attempt(1, "p-1", n / 99, 5, "lost"), attempt(2, "p-2", 5, 9))
            for n in range(99)
        ),
    ],
    "many": many(5000, 4),
    "middling": many(120, 2),
    "wide": many(600, 90, at_once=1),
    "a moment": [task("a", 0, 0, attempt(1, "w-1", 0, 0))],
    "evil": [
        task(EVIL, 0, 1, attempt(1, EVIL, 0.1, 0.9, "failed", EVIL), status="dead", name=EVIL),
        task("long", 0, None, attempt(1, "w" * 500, 0.1, None, "running"), status="open"),
        task("wide", 0, 1, attempt(1, "日本語" * 40, 0.1, None, "lost"), status="cancelled"),
    ],
}
every_case = pytest.mark.parametrize("tasks", CASES.values(), ids=CASES.keys())


def drawn(tasks: Iterable[TaskHistory], title: str = "Timeline") -> ElementTree.Element:
    return ElementTree.fromstring(Timeline(list(tasks), title).svg())


def texts(root: ElementTree.Element) -> list[ElementTree.Element]:
    return list(root.iter(f"{SVG}text"))


def words(root: ElementTree.Element) -> str:
    return " ".join(one.text or "" for one in texts(root))


def with_class(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [one for one in root.iter() if name in (one.get("class") or "").split()]


@every_case
def test_it_runs_nothing_and_loads_nothing(tasks: list[TaskHistory]) -> None:
    root = drawn(tasks, EVIL)
    names = {one.tag.removeprefix(SVG) for one in root.iter()}
    assert names <= {"svg", "title", "desc", "style", "defs", "pattern", "rect", "path", "text", "g"}
    attributes = {key for one in root.iter() for key in one.attrib}
    assert not any(key.startswith("on") or "href" in key for key in attributes)
    urls = re.findall(r"url\(([^)]*)\)", Timeline(tasks, EVIL).svg())
    assert all(url.startswith("#") for url in urls)


@every_case
def test_it_has_a_text_alternative(tasks: list[TaskHistory]) -> None:
    root = drawn(tasks, "The title")
    assert root.get("role") == "img"
    assert (root[0].tag, root[1].tag) == (f"{SVG}title", f"{SVG}desc")
    count = sum(one.kind == "task" for one in tasks)
    assert re.match(rf"The title: (\d+ runs?, .*)?{count:,} task", root[0].text or "")
    assert root[1].text


@every_case
def test_no_label_runs_into_another_or_out_of_the_picture(tasks: list[TaskHistory]) -> None:
    root = drawn(tasks, EVIL * 5)
    wide, high = float(root.get("width") or 0), float(root.get("height") or 0)
    boxes = []
    for one in texts(root):
        kind = (one.get("class") or "").split()
        size = 17 if "title" in kind else 12.5 if "summary" in kind else 12 if "name" in kind else 10.5
        long = width(one.text or "", size, bold="name" in kind or "title" in kind)
        x, y = float(one.get("x") or 0), float(one.get("y") or 0)
        left = x - long / 2 if one.get("text-anchor") == "middle" else x
        assert left >= 0, one.text
        assert left + long <= wide, one.text
        assert size <= y <= high, one.text
        boxes.append((left, y - size * 0.75, left + long, y, one.text))
    boxes.sort(key=lambda box: box[1])
    for number, one_box in enumerate(boxes):
        for other in boxes[number + 1 :]:
            if other[1] >= one_box[3]:
                break
            apart = one_box[2] <= other[0] or other[2] <= one_box[0]
            assert apart, (one_box, other)


@every_case
def test_everything_drawn_stands_inside(tasks: list[TaskHistory]) -> None:
    root = drawn(tasks)
    wide, high = float(root.get("width") or 0), float(root.get("height") or 0)
    for one in root.iter(f"{SVG}rect"):
        x, y = float(one.get("x") or 0), float(one.get("y") or 0)
        assert 0 <= x <= x + float(one.get("width") or 0) <= wide
        assert 0 <= y <= y + float(one.get("height") or 0) <= high


def test_foreign_text_stays_text() -> None:
    svg = Timeline(CASES["evil"], EVIL).svg()
    assert "<script" not in svg
    assert "\x1b" not in svg
    assert "\x00" not in svg
    assert "\u202e" not in svg
    assert "&lt;script&gt;" in svg


def test_every_attempt_of_a_few_tasks_is_a_bar_and_a_death_is_a_cross() -> None:
    root = drawn(three())
    bars = [
        one
        for kind in ("done", "failed", "dead")
        for one in with_class(root, kind)
        if float(one.get("y") or 0) > 0
    ]
    assert len(bars) == 5
    crosses = with_class(root, "cross")
    assert len(crosses) == 2  # one death, and its sign in the legend
    assert len(with_class(root, "retry")) == 3  # two second attempts, and the legend


def test_thousands_of_tasks_stay_small_and_say_that_they_are_summed_up() -> None:
    svg = Timeline(CASES["many"]).svg()
    assert len(svg) < 120_000
    said = words(ElementTree.fromstring(svg))
    assert "A profile stands for more attempts than fit as bars" in said
    attempts = [int(found.replace(",", "")) for found in re.findall(r"([\d,]+) attempts, busy", said)]
    assert sum(attempts) == sum(len(one.attempts) for one in CASES["many"])


def test_a_death_among_thousands_still_has_its_cross() -> None:
    root = drawn(many(5000, 4))
    counts = [int(found) for found in re.findall(r"×(\d+)", words(root))]
    alone = len(with_class(root, "cross")) - 1 - len(counts)
    assert sum(counts) + alone == sum(one.status == "dead" for one in many(5000, 4)) == 10


def test_instances_beyond_the_fortieth_are_counted_in_one_lane() -> None:
    assert "51 more instances" in words(drawn(CASES["wide"]))


def test_light_and_dark_name_the_same_things() -> None:
    light, dark = stylesheet("x").split("@media (prefers-color-scheme:dark)")
    for name in re.findall(r"\.x \.([a-z-]+)\{(?:fill|stroke):#", light):
        assert f".x .{name}" in dark, name


def test_text_on_a_bar_can_be_read_in_light_and_dark() -> None:
    light, dark = stylesheet("x").split("@media (prefers-color-scheme:dark)")
    for sheet in (light, dark):
        for kind in ("done", "failed", "dead", "cancelled", "running"):
            ground = re.findall(rf"\.x \.{kind}\{{fill:(#[0-9a-f]+)", sheet)[0]
            ink = re.findall(rf"\.x \.on-{kind}\b[^{{]*\{{fill:(#[0-9a-f]+)", sheet)[0]
            assert contrast(ground, ink) >= 4.5, (kind, ground, ink)
        assert (
            contrast(
                *(re.findall(rf"\.x \.{one}\{{fill:(#[0-9a-f]+)", sheet)[0] for one in ("track", "muted"))
            )
            >= 4.5
        )


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, "contrast ratio": 4.5 is level AA for small text."""

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
        parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@settings(deadline=None)
@given(st.text(max_size=60), st.floats(20, 300))
def test_a_shortened_name_fits_its_room(text: str, room: float) -> None:
    assert width(fit(text, room, 12), 12) <= room


@every_case
@pytest.mark.parametrize("columns", [40, 80, 100, 200])
def test_the_text_form_keeps_to_its_width_and_to_plain_characters(
    tasks: list[TaskHistory], columns: int
) -> None:
    for line in Timeline(tasks, EVIL).text(columns).split("\n"):
        assert cells(line) <= columns
        assert all(one.isprintable() for one in line)


def test_the_text_form_shows_lanes_retries_and_deaths() -> None:
    text = Timeline(three(), "Three tasks").text(80)
    assert text.startswith("Three tasks\n3 tasks   2 done   1 dead   2 retries   1.2 s")
    lanes = {line.split()[0]: line for line in text.split("\n") if re.match(r"(digest|links)-\d", line)}
    assert list(lanes) == ["digest-1", "digest-2", "links-1"]
    assert "█" in lanes["digest-1"]
    assert "▒" in lanes["digest-2"]
    assert "▒×" in text
    assert "× dead letter" in text


def test_a_notebook_gets_the_picture_and_a_terminal_the_text() -> None:
    timeline = Timeline(three())
    assert timeline._repr_mimebundle_() == {"image/svg+xml": timeline.svg(), "text/plain": timeline.text()}


def test_a_resumption_is_marked_and_an_arrow_leads_to_the_instance_that_went_on() -> None:
    root = drawn(resumed())
    assert len(with_class(root, "handover")) == 2 + 1  # the run, one task, and the legend
    assert len(with_class(root, "resumed")) == 1 + 1
    assert len(with_class(root, "retry")) == 1 + 1
    legend = words(root)
    for meaning in ("coordinates a run", "until taken over", "resumed", "step", "went on there"):
        assert meaning in legend
    assert "1 run · resumed once · 3 tasks · 2 done · 1 dead · 1 retry · 6 s" in legend
    about = root[1].text or ""
    assert "planner-1: 1 run, 1 step, busy 7 % (1 taken over by another coordinator, 1 step)." in about
    assert "digest c: queued 200 ms, digest-2 1.6 s failed (no text), dead letter." in about


def test_an_attempt_in_the_same_lane_has_no_arrow() -> None:
    again = task("a", 0, 3, attempt(1, "w-1", 0, 1, "failed"), attempt(2, "w-1", 2, 3))
    assert with_class(drawn([again]), "handover") == []


def test_coordination_is_no_work() -> None:
    tale = [of_run("r", 0, 10, attempt(1, "p-1", 0, 10)), task("a", 0, 1, attempt(1, "p-1", 0, 1))]
    assert "1 attempt, 1 run, busy 10 %" in words(drawn(tale))


def test_unreadable_records_are_owned_up_to() -> None:
    timeline = Timeline(three(), unreadable=2)
    for text in (timeline.svg(), timeline.text(), timeline.mermaid(), Timeline([], unreadable=2).text()):
        assert "2 records could not be read and left out" in text


def test_the_text_form_tells_of_each_of_a_few_tasks_and_of_the_troubled_among_many() -> None:
    text = Timeline(resumed()).text(100)
    assert "run audit docs-1: queued 100 ms, planner-1 2.9 s until another took over," in text
    assert "digest b: queued 100 ms, digest-1 400 ms failed (OSError: busy), backoff 800 ms," in text
    assert "step scan: planner-1 400 ms" in text
    assert ">━" in text
    assert re.search(r"2█+", text)
    lines = Timeline(many(5000, 4)).text(100).split("\n")
    assert len([line for line in lines if line.startswith("digest t")]) == 12
    troubled = sum(one.retries > 0 or one.status == "dead" for one in many(5000, 4))
    assert lines[-1] == f"and {troubled - 12} more that were tried again, died or were cancelled"


def test_a_task_without_an_attempt_on_record_is_not_said_to_wait() -> None:
    """Bug: "queued 0 s, not begun" of one whose first attempt had killed its process."""
    text = Timeline([task("a", 0, None, status="open"), *three()]).text(100)
    assert "digest a: no attempt on record yet" in text
    assert "not begun" not in text


def test_a_timeline_is_told_in_a_line_however_many_tasks_it_has() -> None:
    assert len(repr(Timeline(many(5000, 4)))) < 120


moments = st.one_of(st.floats(-10, 100), st.floats())
attempts = st.builds(
    attempt,
    st.integers(1, 5),
    st.sampled_from(["a-1", "a-2", "", "ö\x07"]),
    moments,
    st.one_of(st.none(), moments),
    st.sampled_from(["done", "failed", "lost", "running"]),
    st.text(max_size=5),
)
histories = st.lists(
    st.builds(
        lambda id, submitted, ended, tries, status: task(id, submitted, ended, *tries, status=status),
        st.text(max_size=5),
        moments,
        st.one_of(st.none(), moments),
        st.lists(attempts, max_size=4),
        st.sampled_from(["open", "done", "dead", "cancelled"]),
    ),
    max_size=6,
)


@settings(max_examples=150, deadline=None)
@given(histories)
def test_whatever_a_log_holds_can_be_drawn(tasks: list[TaskHistory]) -> None:
    root = drawn(tasks)
    assert not re.search(r"nan|inf(?![a-z])", " ".join(one.get("d") or "" for one in root.iter()))
    assert Timeline(tasks).text(80)

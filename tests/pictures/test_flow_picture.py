"""Each hop is in the picture once in each gap, and what is drawn together says so."""

from __future__ import annotations

import itertools

import pytest
from drawn import EVIL, SVG, drawn, size, told, with_class, words
from hypothesis import given, settings
from hypothesis import strategies as st

import roost
from roost import flow_picture
from roost.pictures._flow import flow

HOPS = [
    *[("planner", "tasks", "w1")] * 6,
    *[("planner", "tasks", "w2")] * 2,
    *[("w1", "results", "planner")] * 4,
    ("w2", "alerts", ""),
]


def test_lines_carry_their_counts_and_are_as_thick_as_they_are() -> None:
    root = drawn(flow_picture(HOPS, title="Team"))
    counts = sorted(int(one.text or 0) for one in with_class(root, "figure"))
    assert counts == [1, 1, 2, 4, 4, 6, 8]
    assert len(with_class(root, "flow")) == 7
    thick = sorted(size(one, "stroke-width") for one in with_class(root, "flow"))
    assert thick[-1] == 7
    assert thick[-2] == pytest.approx(7 * 6 / 8, abs=0.1)
    assert root[0].text == "Team: 13 messages, 3 senders, 3 subjects, 3 receivers, 1 to nobody"
    assert "planner → tasks → w1: 6." in told(root)
    assert "w2 → alerts → nobody: 1." in told(root)


def test_what_nobody_got_is_drawn_as_that() -> None:
    root = drawn(flow_picture(HOPS))
    assert len(with_class(root, "lost-way")) == 1
    assert "nobody" in words(root)


def test_the_text_has_a_line_for_each_way() -> None:
    assert flow_picture(HOPS).text().splitlines()[3:] == [
        "planner ─ tasks   → w1       6",
        "planner ─ tasks   → w2       2",
        "w1      ─ results → planner  4",
        "w2      ─ alerts  → nobody   1",
    ]


def test_beyond_twelve_in_a_column_the_rest_is_one_node_and_nothing_is_left_out() -> None:
    hops = [(f"s{n}", "one", f"r{n}") for n in range(1, 21) for _ in range(n)]
    picture = flow_picture([*hops, ("s1", "one", "")])
    root = drawn(picture)
    assert "9 more senders" in words(root)
    assert "9 more receivers" in words(root)
    assert "those with least drawn together" in words(root)
    scene = flow(picture.hops)
    assert [sum(line.count for line in lines) for lines in scene.lines] == [211, 211]
    assert scene.columns[0][11].count == 46
    assert [line.count for line in scene.lines[0] if line.start == 11] == [46]
    assert [node.name for node in scene.columns[2]][-2:] == ["nobody", "9 more receivers"]


def test_nodes_do_not_overlap_and_lines_keep_apart() -> None:
    hops = [(f"agent-{a}", f"team.{a}.status", f"watch-{b}") for a in range(8) for b in range(5)]
    root = drawn(flow_picture(hops))
    boxes = sorted(
        (size(one, "x"), size(one, "y"), size(one, "y") + size(one, "height"))
        for look in ("node", "running")
        for one in root.iter(f"{SVG}rect")
        if one.get("class") == look
    )
    for (x, _, bottom), (other_x, top, _) in itertools.pairwise(boxes):
        assert x < other_x or bottom < top
    ends = [one.get("d", "").split("C")[0] for one in with_class(root, "flow")]
    assert len(set(ends)) == len(ends)


def test_many_ways_are_told_by_their_tooltips_and_the_file_stays_small() -> None:
    hops = [(f"s{n % 40}", f"t{n % 33}", f"r{n % 17}") for n in range(5000)]
    picture = flow_picture(hops)
    assert len(picture.svg()) < 150_000
    assert "Too many lines for a figure each" in words(drawn(picture))
    assert "more ways with" in picture.text()


def test_nothing_sent_is_said() -> None:
    assert "No message was sent." in words(drawn(flow_picture([])))
    assert "No message was sent." in flow_picture([]).text()


def test_foreign_text_stays_text() -> None:
    drawn(flow_picture([(EVIL, EVIL, EVIL), ("日本語" * 40, "a" * 300, "")], title=EVIL))


@pytest.mark.parametrize("hop", ["abc", ("a", "b"), ("a", "b", None), ("", "b", "c"), ("a", "", "c"), 3])
def test_what_is_no_hop_is_refused_with_what_to_give_instead(hop: object) -> None:
    with pytest.raises(roost.ConfigError, match="a sender, a subject and a receiver"):
        flow_picture([hop])  # type: ignore[list-item]


NAMES = st.text(min_size=1, max_size=12)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(NAMES, NAMES, st.text(max_size=12)), max_size=60))
def test_any_hops_make_a_picture_within_its_bounds(hops: list[tuple[str, str, str]]) -> None:
    picture = flow_picture(hops)
    drawn(picture)
    assert all(sum(one.count for one in lines) == len(hops) for lines in flow(picture.hops).lines)

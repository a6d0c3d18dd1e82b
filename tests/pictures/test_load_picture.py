"""Bars are as long as their counts; what has no bar of its own is counted all the same."""

from __future__ import annotations

import pytest
from drawn import EVIL, SVG, drawn, size, told, with_class, words
from hypothesis import given, settings
from hypothesis import strategies as st

import roost
from roost import load_picture


def test_each_bar_is_as_long_as_its_count_and_has_count_and_share() -> None:
    root = drawn(load_picture({"w1": 40, "w2": 10, "w3": 0, "w4": 150}, title="Who", unit="tasks"))
    bars = [size(one, "width") for one in with_class(root, "done")]
    assert [one / bars[-1] for one in bars] == [pytest.approx(one, abs=0.01) for one in (0.267, 0.067, 1)]
    assert bars[-1] == size(with_class(root, "track")[0], "width")
    assert all(part in words(root) for part in ("200 tasks", "by 4", "0 to 150 each", "w2", "5.0 %", "75 %"))
    assert root[0].text == "Who: 200 tasks, by 4, 0 to 150 each"
    assert told(root) == "w1: 40 (20 %). w2: 10 (5.0 %). w3: 0 (0 %). w4: 150 (75 %)."


def test_names_are_counted_and_stand_in_natural_order() -> None:
    picture = load_picture(["w10", "w2", "w10", "w1"])
    assert list(picture.counts.items()) == [("w1", 1), ("w2", 1), ("w10", 2)]
    assert picture.text(50).splitlines()[3:] == [
        " w1  " + "█" * 17 + "▌" + " " * 17 + "  1   25 %",
        " w2  " + "█" * 17 + "▌" + " " * 17 + "  1   25 %",
        "w10  " + "█" * 35 + "  2   50 %",
    ]


def test_beyond_thirty_names_the_rest_is_one_bar_and_the_picture_says_so() -> None:
    picture = load_picture({f"w{number}": number for number in range(1, 101)})
    root = drawn(picture)
    assert len(with_class(root, "done")) == 29
    assert len(with_class(root, "queue")) == 1
    assert "5,050 messages · by 100 · the 29 with most shown, the other 71 together" in words(root)
    assert f"71 more names: {sum(range(1, 72)):,} (51 %)." in told(root)
    assert "w72 " in picture.text()
    assert "w71 " not in picture.text()


def test_nothing_counted_is_said() -> None:
    picture = load_picture([], unit="tasks")
    assert "No tasks counted." in words(drawn(picture))
    assert "No tasks counted." in picture.text()
    assert repr(picture) == "LoadPicture('Load': 0 tasks, by 0)"


def test_foreign_text_stays_text() -> None:
    root = drawn(load_picture({EVIL: 2, "日本語" * 40: 1}, title=EVIL, unit=EVIL))
    assert any("<script>" in (one.text or "") for one in root.iter(f"{SVG}text"))


@pytest.mark.parametrize("counts", ["abc", {"a": -1}, {"a": 1.5}, {"a": True}, {3: 1}, [1, 2]])
def test_what_is_no_count_is_refused_with_what_to_give_instead(counts: object) -> None:
    with pytest.raises(roost.ConfigError, match="load_picture"):
        load_picture(counts)  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text(max_size=30), st.integers(0, 10**9), max_size=45))
def test_any_counts_make_a_picture_within_its_bounds(counts: dict[str, int]) -> None:
    drawn(load_picture(counts))

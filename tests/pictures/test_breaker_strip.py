"""The strip of breakers: every change is in it, in pixels and in characters; foreign text stays text."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost import BreakerStrip, Event, breaker_strip
from roost.pictures._timeline_text import cells

SVG = "{http://www.w3.org/2000/svg}"
EVIL = '<script>alert(1)</script> & "quotes" \x1b[31m \x00 ]]> \u202e end'
BEGAN = 1_790_000_000.0


def event(kind: str, at: float, subject: str = "shop", reason: str = "") -> Event:
    return Event(kind=f"breaker_{kind}", subject=subject, reason=reason, at_s=BEGAN + at)


OUTAGE = [
    event("opened", 10, reason="10 of 10 calls within 10 s failed; the next probe is due in 5.0 s"),
    event("half_open", 15),
    event("opened", 16, reason="its probe failed: OSError"),
    event("half_open", 26),
    event("closed", 27, reason="its probe went well"),
]


def outage(until: float = 40) -> BreakerStrip:
    return breaker_strip(OUTAGE, began_s=BEGAN, until_s=BEGAN + until)


def drawn(strip: BreakerStrip) -> ElementTree.Element:
    return ElementTree.fromstring(strip.svg())


def with_class(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [one for one in root.iter() if name in (one.get("class") or "").split()]


def test_each_state_stands_where_it_was_and_each_probe_has_its_mark() -> None:
    root = drawn(outage())
    tracks = with_class(root, "track")
    left, wide = float(tracks[0].get("x") or 0), float(tracks[0].get("width") or 0)
    blocks = [one for one in with_class(root, "dead") if float(one.get("x") or 0) >= left]
    places = [
        ((float(one.get("x") or 0) - left) / wide, float(one.get("width") or 0) / wide) for one in blocks
    ]
    assert places == [pytest.approx((0.25, 0.125), abs=1e-3), pytest.approx((0.4, 0.25), abs=1e-3)]
    assert len(with_class(root, "cross")) == 2  # one in the legend
    words = " ".join(one.text or "" for one in root.iter(f"{SVG}text"))
    assert "not closed for 17 s, 1 failed probe" in words
    assert "10 of 10 calls within 10 s failed" in words
    assert "opened 1 time" in words


def test_the_text_has_the_same() -> None:
    lines = outage().text(46).splitlines()
    row = next(line for line in lines if line.startswith("shop"))
    assert row == "shop  " + "─" * 10 + "█" * 5 + "▒" + "×" + "█" * 9 + "▒" + "o" + "─" * 12
    assert "shop: open after 10 s: 10 of 10 calls within 10 s failed\n" in outage().text()


def test_it_has_a_text_alternative_and_a_notebook_gets_both_forms() -> None:
    bundle = outage()._repr_mimebundle_()
    root = ElementTree.fromstring(bundle["image/svg+xml"])
    assert root.get("role") == "img"
    assert (root[0].tag, root[1].tag) == (f"{SVG}title", f"{SVG}desc")
    assert root[0].text == "Circuit breakers: 1 breaker, opened 1 time, 40 s"
    assert "shop: open after 16 s: its probe failed: OSError." in (root[1].text or "")
    assert bundle["text/plain"] == outage().text()
    assert repr(outage()) == "BreakerStrip('Circuit breakers': 1 breaker, opened 1 time, 40 s)"


def test_a_moment_in_a_day_is_still_seen() -> None:
    strip = breaker_strip(OUTAGE, began_s=BEGAN, until_s=BEGAN + 86_400)
    assert all(float(one.get("width") or 0) >= 3 for one in with_class(drawn(strip), "dead"))
    assert "o" in strip.text().splitlines()[4]


def test_a_breaker_that_flaps_for_a_day_makes_no_large_file() -> None:
    events = [
        event(kind, 2.0 * n + add)
        for n in range(20_000)
        for kind, add in (("opened", 0), ("half_open", 1), ("closed", 1.5))
    ]
    assert len(breaker_strip(events).svg()) < 300_000


def test_nothing_recorded_is_said() -> None:
    strip = breaker_strip([Event(kind="task_dead", subject="a", at_s=1.0)])
    assert "No breaker opened." in strip.svg()
    assert "No breaker opened." in strip.text()


def test_foreign_text_stays_text() -> None:
    strip = breaker_strip([event("opened", 0, EVIL, EVIL), event("half_open", 1, EVIL)], title=EVIL)
    root = drawn(strip)
    assert {one.tag.removeprefix(SVG) for one in root.iter()} <= {
        *("svg", "title", "desc", "style", "defs", "pattern", "rect", "path", "text", "g", "circle")
    }
    assert "\x1b" not in strip.text()


KINDS = st.sampled_from(("opened", "half_open", "closed"))


@given(
    st.lists(st.tuples(KINDS, st.floats(0, 1e5), st.sampled_from("ab")), max_size=30),
    st.none() | st.floats(0, 1e5),
    st.none() | st.floats(0, 1e5),
    st.integers(1, 200),
)
def test_any_events_make_a_picture_within_its_bounds(
    events: list[tuple[str, float, str]], began: float | None, until: float | None, width: int
) -> None:
    strip = breaker_strip(
        [event(kind, at, name) for kind, at, name in events],
        began_s=None if began is None else BEGAN + began,
        until_s=None if until is None else BEGAN + until,
    )
    root = drawn(strip)
    for one in root.iter(f"{SVG}rect"):
        x, wide = float(one.get("x") or 0), float(one.get("width") or 0)
        assert wide >= 0
        assert 0 <= x <= x + wide <= 920.5
    assert all(cells(line) <= max(40, width) for line in strip.text(width).splitlines())

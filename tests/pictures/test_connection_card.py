"""The card says what the status says, and its sign is a word as well as a colour."""

from __future__ import annotations

from dataclasses import replace

import pytest
from drawn import EVIL, drawn, size, told, with_class, words
from shown import STATUS

import roost
from roost import connection_card


def test_the_card_has_every_field_and_how_full_the_stores_are() -> None:
    root = drawn(connection_card(STATUS))
    shown = words(root)
    for part in (
        "connected",
        "hub-1",
        "2.15.1",
        "3 streams of 10, 2 consumers",
        "0.42 ms",
        "TLSv1.3",
        "demo",
    ):
        assert part in shown
    assert "3.4 GB of 10.0 GB (34 %)" in shown
    ground, meter = with_class(root, "queue")[0], with_class(root, "done")[0]
    assert size(meter, "width") / size(ground, "width") == pytest.approx(0.34, abs=0.01)
    assert len(with_class(root, "step")) == 1
    assert told(root).startswith("state: connected. server: hub-1 (tls://hub.example:4222, from NATS_URL).")


def test_a_store_that_is_nearly_full_stands_out() -> None:
    assert STATUS.jetstream is not None
    full = replace(STATUS.jetstream, storage_bytes=9_990_000_000)
    root = drawn(connection_card(replace(STATUS, jetstream=full)))
    assert len(with_class(root, "dead")) == 1
    assert "(99 %)" in words(root)


@pytest.mark.parametrize(
    ("note", "word"),
    [
        ("none (the server runs without it)", "connected, JetStream absent"),
        ("not known (this user may not ask on $JS.API.INFO)", "connected, JetStream not known"),
    ],
)
def test_without_jetstream_it_says_so_in_another_colour(note: str, word: str) -> None:
    picture = connection_card(replace(STATUS, jetstream=None, jetstream_note=note))
    root = drawn(picture)
    assert word in words(root)
    assert note in words(root)
    assert len(with_class(root, "failed")) == 1
    assert picture.text().splitlines()[1] == f"state       {word}"


def test_the_text_holds_all_of_the_status() -> None:
    text = connection_card(STATUS).text(60)
    assert " ".join(str(STATUS).split()) in " ".join(text.split())


def test_foreign_text_stays_text() -> None:
    drawn(connection_card(replace(STATUS, server=EVIL, namespace=EVIL, source=EVIL), title=EVIL))


def test_what_is_no_status_is_refused_with_what_to_give_instead() -> None:
    with pytest.raises(roost.ConfigError, match=r"await bus.status\(\)"):
        connection_card("nats://127.0.0.1:4222")  # type: ignore[arg-type]

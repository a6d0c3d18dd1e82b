"""Foreign text in messages: one line, bounded, no passwords."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost._text import clean, quoted, redact


@given(st.text(alphabet=st.characters()), st.integers(0, 60))
def test_clean_text_is_printable_bounded_and_encodable(text: str, limit: int) -> None:
    cleaned = clean(text, limit)
    assert cleaned.isprintable()
    assert len(cleaned) <= limit
    cleaned.encode()


@given(st.text(alphabet="abc äö€😀", max_size=50))
def test_printable_text_stays_as_it_is(text: str) -> None:
    assert clean(text, 50) == text


def test_a_line_break_cannot_forge_a_log_line() -> None:
    assert clean("ok\nERROR forged\r\x1b[2J\u202e") == r"ok\nERROR forged\r\x1b[2J\u202e"


def test_what_is_cut_off_is_marked() -> None:
    assert clean("abcdef", 4) == "abc…"


def test_the_repr_of_a_megabyte_is_short() -> None:
    assert len(quoted("x" * 1_000_000, 40)) == 40


@pytest.mark.parametrize(
    ("url", "redacted"),
    [
        ("nats://host:4222", "nats://host:4222"),
        ("nats://ann:secret@host:4222", "nats://***@host:4222"),
        ("nats://token@host", "nats://***@host"),
        ("nats://a:secret@h1,nats://b:secret@h2", "nats://***@h1,nats://***@h2"),
        ("nats://h1,nats://b:secret@h2", "nats://h1,nats://***@h2"),
        ("nats://h1, nats://b:secret@h2", "nats://h1, nats://***@h2"),
        ("nats://ann:se/cr@et,x@host", "nats://***@host"),
        ("ann:secret@host", "***@host"),
        ("no route to nats://ann:secret@host: timeout", "no route to nats://***@host: timeout"),
        ("tls://[::1]:4222", "tls://[::1]:4222"),
    ],
)
def test_a_url_is_shown_without_its_credentials(url: str, redacted: str) -> None:
    assert redact(url) == redacted

"""What supervisor and process say to each other survives whatever else is said on their socket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.runtime.words import LINE_LIMIT, Lines, Word, parse_stop, stop_line


@given(st.sampled_from(["waiting", "ready", "failed"]), st.text(max_size=3000))
def test_a_word_arrives_as_one_line_that_fits(kind: str, text: str) -> None:
    line = Word(kind, "w-1", text).encode()  # type: ignore[arg-type]
    assert len(line) <= LINE_LIMIT
    assert line.count(b"\n") == 1
    (found,) = Lines().feed(line)
    word = Word.decode(found)
    assert word is not None
    assert (word.kind, word.name) == (kind, "w-1")
    assert word.text.isprintable()


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"hello", b"[]", b"null", b"\xff\xfe", b"[" * 3000),
        b'{"kind": "ready"}',
        b'{"kind": "boss", "name": "", "text": ""}',
        b'{"kind": "ready", "name": 1, "text": ""}',
    ],
)
def test_what_is_no_word_is_passed_over(line: bytes) -> None:
    assert Word.decode(line) is None


@given(
    st.lists(st.binary(max_size=50).map(lambda data: data.replace(b"\n", b"")), max_size=8),
    st.integers(1, 60),
)
def test_lines_are_put_together_however_they_were_cut(lines: list[bytes], step: int) -> None:
    data = b"".join(line + b"\n" for line in lines)
    reader = Lines()
    found = [line for at in range(0, len(data), step) for line in reader.feed(data[at : at + step])]
    assert found == lines


def test_a_line_without_end_is_left_out_and_takes_no_memory() -> None:
    reader = Lines()
    for _ in range(100):
        assert reader.feed(b"x" * 1000) == []
        assert len(reader._rest) <= LINE_LIMIT
    assert reader.feed(b"rest\nstop 1\n") == [b"stop 1"]


def test_a_stop_carries_its_seconds() -> None:
    assert parse_stop(stop_line(2.5).strip()) == 2.5
    assert parse_stop(stop_line(0).strip()) == 0


@pytest.mark.parametrize(
    "line", [b"stop", b"stop soon", b"stop -1", b"stop nan", b"stop inf", b"halt 3", b""]
)
def test_what_is_no_stop_stops_nothing(line: bytes) -> None:
    assert parse_stop(line) is None

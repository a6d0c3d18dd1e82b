"""The parser: whatever the bytes and however they are cut, each message comes out once and whole, or it says no."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nats.errors import ProtocolError

from roost.transport.failures import Malformed
from roost.transport.parser import MAX_CONTROL_LINE, Parser


class Recorder:
    """A sink that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[bytes, ...]] = []

    def deliver(self, sid: bytes, subject: bytes, reply: bytes, head: bytes, data: bytes) -> None:
        self.told.append((sid, subject, reply, head, data))

    def control(self, operation: bytes, argument: bytes) -> None:
        self.told.append((operation, argument))


# Anything that a publisher can put into a subject: the server ends a word only at these four.
words = st.binary(min_size=1, max_size=20).filter(lambda word: not set(word) & set(b" \t\r\n"))
payloads = st.one_of(
    st.binary(max_size=200), st.just(b"\r\n"), st.just(b"MSG a 1 0\r\n\r\n"), st.just(b"PING\r\n")
)
sids = st.integers(1, 10**9).map(lambda sid: b"%d" % sid)


@st.composite
def operations(draw: st.DrawFn) -> tuple[bytes, tuple[bytes, ...] | None]:
    """Bytes as a server writes them, and what must come out."""
    kind = draw(st.sampled_from(["MSG", "HMSG", "PING", "PONG", "+OK", "-ERR", "INFO"]))
    if kind in ("MSG", "HMSG"):
        sid, subject, data = draw(sids), draw(words), draw(payloads)
        reply = draw(st.one_of(st.just(b""), words))
        head = draw(st.binary(min_size=1, max_size=60)) if kind == "HMSG" else b""
        line = b" ".join([kind.encode(), subject, sid, *([reply] if reply else [])])
        sizes = b" %d %d" % (len(head), len(head) + len(data)) if head else b" %d" % len(data)
        return line + sizes + b"\r\n" + head + data + b"\r\n", (sid, subject, reply, head, data)
    if kind in ("-ERR", "INFO"):
        text = draw(words)
        return kind.encode() + b" " + text + b"\r\n", (kind.encode(), text)
    return kind.encode() + b"\r\n", None if kind == "+OK" else (kind.encode(), b"")


@given(st.lists(operations(), max_size=30), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_every_operation_comes_out_however_the_bytes_are_cut(
    sent: list[tuple[bytes, tuple[bytes, ...] | None]], chance: random.Random
) -> None:
    stream = b"".join(text for text, _ in sent)
    recorder = Recorder()
    parser = Parser(recorder)
    position = messages = 0
    while position < len(stream):
        size = chance.choice([1, 2, 3, 7, 20, 100, 1000])
        messages += parser.feed(stream[position : position + size])
        position += size
    expected = [told for _, told in sent if told is not None]
    assert recorder.told == expected
    assert messages == sum(len(told) == 5 for told in expected)


@given(st.lists(operations(), min_size=1, max_size=3))
@settings(max_examples=30, deadline=None)
def test_cutting_after_each_single_byte_changes_nothing(
    sent: list[tuple[bytes, tuple[bytes, ...] | None]],
) -> None:
    recorder = Recorder()
    parser = Parser(recorder)
    for byte in b"".join(text for text, _ in sent):
        parser.feed(bytes([byte]))
    assert recorder.told == [told for _, told in sent if told is not None]


@given(st.lists(st.binary(max_size=300), max_size=20))
@settings(max_examples=200, deadline=None)
def test_garbage_is_refused_or_waited_for_and_nothing_else(chunks: list[bytes]) -> None:
    parser = Parser(Recorder())
    try:
        for chunk in chunks:
            parser.feed(chunk)
    except Malformed:
        pass


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b" ",
        b"HELLO",
        b"ping",
        b"M",
        b"MSG",
        b"MSG ",
        b"MSG a 1",
        b"MSG a 1 x",
        b"MSG a 1 -1",
        b"MSG a 1 b c 5",
        b"MSG a 1 999999999999",
        b"MSGX a 1 0",
        b"HMSG a 1 5",
        b"HMSG a 1 10 5",
        b"HMSG a 1 -1 5",
        b"HMSG a 1 b c 5 10",
        b"MSH a 1 0",
    ],
)
def test_line_that_is_not_of_the_protocol_is_refused(line: bytes) -> None:
    recorder = Recorder()
    with pytest.raises(ProtocolError):
        Parser(recorder).feed(line + b"\r\n" + b"x" * 20 + b"\r\n")
    assert recorder.told == []


def test_payload_longer_than_announced_is_refused() -> None:
    with pytest.raises(Malformed, match="another length"):
        Parser(Recorder()).feed(b"MSG a 1 2\r\nabc\r\n")


def test_control_line_without_an_end_is_refused() -> None:
    parser = Parser(Recorder())
    parser.feed(b"x" * MAX_CONTROL_LINE)
    with pytest.raises(Malformed, match="without an end"):
        parser.feed(b"x")


def test_info_of_a_large_cluster_is_no_garbage() -> None:
    recorder = Recorder()
    Parser(recorder).feed(b"INFO " + b"x" * 100_000 + b"\r\n")
    assert len(recorder.told[0][1]) == 100_000


def test_nothing_is_handed_on_after_stop() -> None:
    class Stopping(Recorder):
        def control(self, operation: bytes, argument: bytes) -> None:
            super().control(operation, argument)
            parser.stop()

    recorder = Stopping()
    parser = Parser(recorder)
    parser.feed(b"-ERR 'x'\r\nMSG a 1 0\r\n\r\n")
    parser.feed(b"MSG a 1 0\r\n\r\nNONSENSE\r\n")
    assert recorder.told == [(b"-ERR", b"'x'")]


def test_time_for_a_large_message_is_linear_in_its_size() -> None:
    """32 MB in 64 KB reads cost one join; a parser that copies its buffer at each read would copy 8 GB."""

    def seconds(size: int) -> float:
        stream = b"MSG a 1 %d\r\n%b\r\n" % (size, b"x" * size)
        recorder = Recorder()
        parser = Parser(recorder)
        begun = time.process_time()
        for position in range(0, len(stream), 65536):
            parser.feed(stream[position : position + 65536])
        assert len(recorder.told[0][4]) == size
        return time.process_time() - begun

    assert seconds(32 * 1024 * 1024) < 1.0


def test_many_small_messages_in_one_read_cost_as_much_each_as_few() -> None:
    recorder = Recorder()
    parser = Parser(recorder)
    chunk = b"MSG subject.of.it 1 16\r\n0123456789abcdef\r\n" * 20_000
    begun = time.process_time()
    assert parser.feed(chunk) == 20_000
    assert time.process_time() - begun < 1.0  # 20 ms here; deleting each from the front would take seconds

"""Messages and header blocks, from friends and strangers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.errors import InvalidMessage
from roost.transport import Message
from roost.transport.headers import MAX_HEADERS, block, check
from roost.transport.message import parse_headers


@pytest.mark.parametrize(
    ("head", "status", "text"),
    [
        (b"NATS/1.0 404 No Messages\r\n\r\n", 404, "No Messages"),
        (b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 5\r\n\r\n", 100, "Idle Heartbeat"),
        (b"NATS/1.0 503\r\n\r\n", 503, ""),
        (b"NATS/1.0 204 EOB\r\nNats-Num-Pending: 0\r\n\r\n", 204, "EOB"),
        (b"NATS/1.0\r\nStatus: 503\r\n\r\n", 0, ""),
        (b"NATS/1.0 4\r\n\r\n", 0, ""),
        (b"NATS/1.0 4x4\r\n\r\n", 0, ""),
        (b"NATS/1.0 404\r\nNats-Stream: S\r\n\r\n", 0, ""),
        (b"", 0, ""),
        (b"NATS/1.0", 0, ""),
    ],
)
def test_status_is_what_the_server_wrote_in_the_first_line(head: bytes, status: int, text: str) -> None:
    message = Message("a", "", head, b"")
    assert message.status == status
    if status:
        assert message.status_text == text


def test_message_with_a_reply_or_a_payload_has_no_status() -> None:
    assert Message("a", "b", b"NATS/1.0 404\r\n\r\n", b"").status == 0
    assert Message("a", "", b"NATS/1.0 404\r\n\r\n", b"x").status == 0


def test_first_value_of_a_name_counts_and_the_last_of_a_name_of_the_server() -> None:
    head = (
        b"NATS/1.0\r\nA: 1\r\nA: 2\r\nNats-Sequence: 9\r\nNats-Sequence: 1\r\nbroken\r\n: x\r\nb:c:d\r\n\r\n"
    )
    assert parse_headers(head) == {"A": "1", "Nats-Sequence": "1", "b": "c:d"}


@given(st.binary(max_size=200))
def test_no_header_block_can_raise(head: bytes) -> None:
    message = Message("a", "", head, b"")
    assert isinstance(message.headers, dict)
    assert message.headers is message.headers
    assert 0 <= message.status <= 999
    message.status_text.encode()
    repr(message)


def test_block_and_parse_headers_are_inverse() -> None:
    pairs = {"traceparent": "00-ab-cd-01", "X-Name": "Grüße", "Empty": ""}
    assert parse_headers(block(*pairs.items())) == pairs


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("", "x"),
        ("a b", "x"),
        ("a:b", "x"),
        ("é", "x"),
        ("a\r\nb", "x"),
        ("Nats-Rollup", "all"),
        ("nats-msg-id", "x"),
        ("Status", "503"),
        ("STATUS", "503"),
        ("Description", "x"),
        ("KV-Operation", "DEL"),
        ("Roost-Error", "x"),
        ("traceparent", "x"),
        ("ok", "a\r\nNats-Rollup: all"),
        ("ok", "a\nb"),
        ("ok", "a\x00b"),
        ("ok", "\ud800"),
        ("ok", "x" * 9000),
    ],
)
def test_callers_header_that_could_pass_for_another_is_refused(name: str, value: str) -> None:
    with pytest.raises(InvalidMessage):
        check({name: value}, subject="a")


def test_number_of_headers_is_bounded() -> None:
    good = {f"h{number}": "x" for number in range(MAX_HEADERS)}
    assert check(good, subject="a") == tuple(good.items())
    with pytest.raises(InvalidMessage):
        check(good | {"one": "more"}, subject="a")

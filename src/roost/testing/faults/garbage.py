"""What no well-behaved peer sends: for a handler's own tests, and for whoever reads from the wire."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

_SHAPES = (b"\x00", b"{}", b"[]", b"null", b"\xff\xfe", b'{"a":', b"NaN", b'"\\ud800"', b"[" * 2000, b"1e999")
_STATUS = (
    b"Status: 503",
    b"Nats-Rollup: all",
    b"Nats-Msg-Id: x",
    b"Nats-TTL: 1s",
    b"Roost-Version: 9999999999",
)
_TOKENS = ("*", ">", "\u202e", "a" * 200, "\u00e9", "%00", "..", "run", "task", "end")


FATAL = b"HPUB %s 1 1\r\nN\r\n"
"""A header of one byte, with the subject to be filled in. It ends nats-server 2.15.1 (a panic in the goroutine of the
stream; seen on 2026-11-22) when a stream that republishes takes the subject, as Roost's log does. The server loses
nothing and starts again; of three, one or two die. `raw_messages` leaves it out."""


def garbage(seed: int | str, *, most_bytes: int = 4096) -> Iterator[bytes]:
    """Payloads without end, the same for the same seed: no JSON, half of it, too deep, too large, or plain noise."""
    chance = random.Random(seed)
    while True:
        kind = chance.randrange(4)
        if kind == 0:
            yield chance.choice(_SHAPES)[:most_bytes]
        elif kind == 1:
            yield chance.randbytes(chance.randrange(most_bytes + 1))
        elif kind == 2:
            data = bytearray(json.dumps({"id": chance.random(), "items": [1, "two", None]}).encode())
            data[chance.randrange(len(data))] = chance.randrange(256)
            yield bytes(data[:most_bytes])
        else:
            yield (b'{"text":"' + b"x" * chance.randrange(most_bytes) + b'"}')[:most_bytes]


def raw_messages(seed: int | str, subjects: list[str], *, most_bytes: int = 4096) -> Iterator[bytes]:
    """Messages without end in the client's protocol, for ``Wire.to_server`` or a socket that has sent CONNECT.

    Subjects are those given and worse ones below them; headers are missing, broken, forged or not UTF-8.
    Each is a whole PUB or HPUB, so that the server takes it and hands it to whoever listens.
    """
    chance = random.Random(f"{seed}/messages")
    payloads = garbage(seed, most_bytes=most_bytes)
    while True:
        subject = chance.choice(subjects)
        if chance.random() < 0.3:
            subject = f"{subject}.{chance.choice(_TOKENS[2:])}"
        reply = chance.choice(["", "", "_INBOX.none", "\u00e9\u00e9"])
        payload = next(payloads)
        route = " ".join(filter(None, (subject, reply))).encode()
        if chance.random() < 0.5:
            yield b"PUB %s %d\r\n%s\r\n" % (route, len(payload), payload)
            continue
        lines = [chance.choice(_STATUS) for _ in range(chance.randrange(3))]
        lines += [
            chance.randbytes(6).replace(b"\r", b"").replace(b"\n", b"") for _ in range(chance.randrange(2))
        ]
        head = b"NATS/1.0\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
        if chance.random() < 0.2:
            head = head[: chance.choice([0, *range(2, len(head) + 1)])]  # one byte: see `FATAL`
        size = len(head)
        yield b"HPUB %s %d %d\r\n%s%s\r\n" % (route, size, size + len(payload), head, payload)

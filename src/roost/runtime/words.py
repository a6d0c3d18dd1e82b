"""What supervisor and process say to each other over their socket, a line each. Pure.

The supervisor says `stop <seconds>`; the end of the socket means the same, which is what makes a process end
whose supervisor was killed. The process says in JSON how far it is. Both sides pass over what they do not
understand: a process forked off by a handler may hold the socket as well.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Literal, get_args

from roost._text import clean

LINE_LIMIT = 4096
"""Bytes of a line; also what a socket takes in one piece."""
TEXT_LIMIT = 1500

Kind = Literal["waiting", "ready", "blocked", "failed"]


@dataclass(frozen=True, slots=True)
class Word:
    """`waiting` for the server, `ready` for work, `blocked` in its event loop or `failed` to start as `text` says."""

    kind: Kind
    name: str = ""  # of the instance, once it is known
    text: str = ""

    def encode(self) -> bytes:
        shown = {"kind": self.kind, "name": self.name, "text": clean(self.text, TEXT_LIMIT)}
        line = json.dumps(shown, ensure_ascii=False).encode()
        if len(line) >= LINE_LIMIT:  # characters of several bytes
            line = json.dumps(
                {**shown, "text": clean(self.text, TEXT_LIMIT // 5)}, ensure_ascii=False
            ).encode()
        return line + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Word | None:
        """None for a line that is no word."""
        try:
            said = json.loads(line)
            kind, name, text = said["kind"], said["name"], said["text"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        if kind not in get_args(Kind) or not isinstance(name, str) or not isinstance(text, str):
            return None
        return cls(kind, clean(name, 64), clean(text, TEXT_LIMIT))


def stop_line(grace_s: float) -> bytes:
    return f"stop {grace_s:.3f}\n".encode()


def parse_stop(line: bytes) -> float | None:
    """The seconds of grace in a `stop` line; None for any other line."""
    word, _, number = line.partition(b" ")
    if word != b"stop":
        return None
    try:
        grace_s = float(number)
    except ValueError:
        return None
    return grace_s if math.isfinite(grace_s) and grace_s >= 0 else None


class Lines:
    """Bytes as they come, cut into lines; a line that is too long is left out."""

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if lines and self._skipping:
            del lines[0]
            self._skipping = False
        if len(self._rest) > LINE_LIMIT:
            self._rest, self._skipping = b"", True
        return [line for line in lines if len(line) <= LINE_LIMIT]

"""A received message: bytes as they came, with headers and status read only when somebody asks.

A subject, reply or header block may hold any bytes that a stranger put there; an exception while decoding
them is what lets one bad message stop a whole client. Here what is not UTF-8 is replaced, so that nothing
in a message can raise.
"""

from __future__ import annotations

HEADER_LINE = b"NATS/1.0"


class Message:
    """One message from the wire.

    `head` is the raw header block (empty when there is none); `headers` parses it on first use.
    """

    __slots__ = ("_headers", "data", "head", "reply", "subject")

    _headers: dict[str, str]

    def __init__(self, subject: str, reply: str, head: bytes, data: bytes) -> None:
        self.subject = subject
        self.reply = reply
        self.head = head
        self.data = data

    @property
    def headers(self) -> dict[str, str]:
        """Header names and values.

        Of a repeated name the first value counts, as in Go's client; of one that begins with `Nats-` the last:
        in a direct get the server appends its own (sequence, subject) to whatever the publisher had written.
        """
        try:
            return self._headers
        except AttributeError:
            self._headers = parse_headers(self.head)
            return self._headers

    @property
    def status(self) -> int:
        """The server's inline status (ADR-4), or 0.

        Only a message without reply and without payload can be a status: a delivered one always has an
        acknowledgement subject as its reply, and one read directly has the server's `Nats-Stream`. So a
        publisher's `Status` header or inline status never passes for the server's word (a client that
        believed it would discard the task).
        """
        head = self.head
        if not head or self.reply or self.data or not head.startswith(b"NATS/1.0 "):
            return 0
        code = head[9:12]
        if len(code) != 3 or not code.isdigit() or b"\r\nNats-Stream:" in head:
            return 0
        return int(code)

    @property
    def status_text(self) -> str:
        """The description beside an inline status, such as `Request Timeout`."""
        end = self.head.find(b"\r\n")
        return self.head[13:end].decode("utf-8", "replace").strip() if end > 13 else ""

    def __repr__(self) -> str:
        return f"Message({self.subject!r}, {len(self.data)} bytes, reply={self.reply!r})"


def parse_headers(head: bytes) -> dict[str, str]:
    """Parse a header block as `Message.headers` says; lines that are not `Name: value` are passed over."""
    found: dict[str, str] = {}
    if not head:
        return found
    for line in head.decode("utf-8", "replace").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon and name and (name not in found or name.startswith("Nats-")):
            found[name] = value.strip()
    return found

"""Text from elsewhere, made safe to print.

Subjects, payloads, error texts of peers and URLs end up in log lines, exception messages and terminals.
A line break in them forges a log line, a control sequence rewrites a terminal, a right-to-left mark
reverses a subject, a password in a URL ends up in a ticket, and a megabyte buries the sentence around it.
"""

from __future__ import annotations

import re

# From `//` (or the beginning, for an address without scheme) to the last `@` of the same address. A password
# may itself hold `/`, `,` or `@`: too much is hidden rather than too little.
_USERINFO = re.compile(r"(?P<start>//|^(?!\w+://))(?:(?!,\s*\w+://)\S)*?@(?=[^@\s]*(?:,\s*\w+://|\s|$))")


def clean(text: str, limit: int = 200) -> str:
    """`text` on one line: everything unprintable as a backslash escape, at most `limit` characters.

    What is cut off is marked with `…`. Unprintable is what `str.isprintable` says: control and format
    characters (bidirectional marks too), line and paragraph separators, odd blanks, lone surrogates.
    The result can always be encoded as UTF-8.
    """
    if len(text) <= limit and text.isprintable():
        return text
    pieces: list[str] = []
    room = limit
    for character in text:
        piece = character if character.isprintable() else _escape(character)
        room -= len(piece)
        if room < 0:
            return _cut(pieces, limit)
        pieces.append(piece)
    return "".join(pieces)


def quoted(value: object, limit: int = 80) -> str:
    """The `repr` of a value somebody passed, safe to print and at most `limit` characters long."""
    if isinstance(value, str | bytes):
        value = value[: limit + 1]  # the repr of a megabyte is never wanted
    return clean(repr(value), limit)


def redact(url: str) -> str:
    """Server URLs, alone, joined by commas or inside a sentence, without the user, password or token."""
    return _USERINFO.sub(r"\g<start>***@", url)


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def _cut(pieces: list[str], limit: int) -> str:
    while pieces and sum(map(len, pieces)) > limit - 1:
        pieces.pop()
    return "".join(pieces) + "…"[:limit]

"""Flow in characters: a line for each way from a sender over a subject to a receiver."""

from __future__ import annotations

from roost._text import clean
from roost.pictures._flow import NOBODY, WAYS, Flow
from roost.pictures._timeline_text import cells, shorten
from roost.pictures._words import counted


def draw(scene: Flow, title: str, width: int) -> str:
    """The whole picture as lines joined by line feeds, without one at the end."""
    head = [shorten(clean(title, 400), width), shorten("   ".join(scene.summary()), width), ""]
    if not scene.hops:
        return "\n".join([*head, "No message was sent."])
    shown, rest = scene.hops[:WAYS], scene.hops[WAYS:]
    digits = max(len(f"{count:,}") for _, count in shown)
    room = (width - digits - 10) // 3
    rows = [([shorten(clean(name) or NOBODY, room) for name in hop], count) for hop, count in shown]
    wides = [max(cells(names[at]) for names, _ in rows) for at in range(3)]
    lines = [
        " ─ ".join(_padded(name, wide) for name, wide in zip(names[:2], wides, strict=False))
        + f" → {_padded(names[2], wides[2])}  {count:>{digits},}"
        for names, count in rows
    ]
    if rest:
        told = f"… and {counted(len(rest), 'more way')} with {counted(sum(n for _, n in rest), 'message')}"
        lines.append(shorten(told, width))
    return "\n".join([*head, *lines])


def _padded(text: str, wide: int) -> str:
    return text + " " * (wide - cells(text))

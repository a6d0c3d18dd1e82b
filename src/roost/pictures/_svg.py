"""SVG as text: escaping, measuring, palette. Pure; knows nothing of what is drawn.

The pictures stand on GitHub, in notebooks and in files on a disk. So a picture is one file that loads
nothing and runs nothing; it paints its own ground, because a page's theme and `prefers-color-scheme` inside
an image need not agree; its classes are scoped, because a notebook may put the SVG straight into its page;
and text from a log is escaped before it gets here a second time.

Colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), which people with any common colour
vision can tell apart, darkened or lightened where text stands on them. Colour is never the only sign: what
failed is also marked, what was lost is hatched, what is dead has a cross.
"""

from __future__ import annotations

import unicodedata
from html import escape

from roost._text import clean

FONT = 'system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif'

_NARROW = frozenset("iljftrI.,:;'|!()[]{}/\\ `·")
_BROAD = frozenset("mwMWQGO@%&…—+=<>_")

_LIGHT = {
    ".ground": "fill:#fff",
    ".edge": "fill:none;stroke:#d8dee4",
    ".track": "fill:#f4f6f8",
    ".grid": "stroke:#d9dfe5",
    ".ink": "fill:#1b2129",
    ".muted": "fill:#59636e",
    ".run": "fill:#d3ede2;stroke:#00805c",
    ".left": "fill:#a9cfc0;stroke:#00805c",
    ".step": "fill:#00805c",
    ".resumed": "fill:#00694b",
    ".handover": "stroke:#59636e",
    ".done": "fill:#0072b2",
    ".failed": "fill:#e69f00",
    ".dead": "fill:#c2410c",
    ".lost": "fill:#9a4f96",
    ".running": "fill:#cfe8f7;stroke:#0072b2",
    ".cancelled": "fill:#8a94a0",
    ".on-done,.on-dead,.on-lost,.on-step": "fill:#fff",
    ".on-failed,.on-running,.on-cancelled,.on-run": "fill:#1b2129",
    ".queue": "fill:#c3ccd6",
    ".again": "fill:#f3cf80",
    ".queued": "stroke:#93a0ad",
    ".backoff": "stroke:#c58700",
    ".retry": "fill:#a86f00",
    ".cross": "stroke:#c2410c",
    ".stop": "stroke:#59636e",
    ".halo": "stroke:#fff",
    ".hatch": "stroke:#fff",
    ".count": "stroke:#f4f6f8",
    ".percentile": "stroke:#1b2129",
    ".node": "fill:#f4f6f8;stroke:#c3ccd6",
    ".flow": "stroke:#0072b2",
    ".lost-way": "stroke:#59636e",
    ".figure": "stroke:#fff",
}
_DARK = {
    ".ground": "fill:#0f141a",
    ".edge": "stroke:#2b333d",
    ".track": "fill:#181f27",
    ".grid": "stroke:#2b343e",
    ".ink": "fill:#e6edf3",
    ".muted": "fill:#9aa6b2",
    ".run": "fill:#123c31;stroke:#35b58b",
    ".left": "fill:#2b6b57;stroke:#35b58b",
    ".step": "fill:#35b58b",
    ".resumed": "fill:#4fd0a5",
    ".handover": "stroke:#9aa6b2",
    ".done": "fill:#4fa3e0",
    ".failed": "fill:#f0b429",
    ".dead": "fill:#ff7a45",
    ".lost": "fill:#c58bd3",
    ".running": "fill:#173c57;stroke:#4fa3e0",
    ".cancelled": "fill:#7b8794",
    ".on-done,.on-dead,.on-lost,.on-failed,.on-cancelled,.on-step": "fill:#0b1016",
    ".on-running,.on-run": "fill:#e6edf3",
    ".queue": "fill:#465361",
    ".again": "fill:#7d5f1a",
    ".queued": "stroke:#6b7885",
    ".backoff": "stroke:#d69a1c",
    ".retry": "fill:#f0b429",
    ".cross": "stroke:#ff7a45",
    ".stop": "stroke:#9aa6b2",
    ".halo": "stroke:#0f141a",
    ".hatch": "stroke:#0f141a",
    ".count": "stroke:#181f27",
    ".percentile": "stroke:#e6edf3",
    ".node": "fill:#181f27;stroke:#465361",
    ".flow": "stroke:#4fa3e0",
    ".lost-way": "stroke:#9aa6b2",
    ".figure": "stroke:#0f141a",
}
_SHAPE = {
    "text": f"font-family:{FONT};font-size:11px;font-variant-numeric:tabular-nums",
    ".title": "font-size:17px;font-weight:600",
    ".summary": "font-size:12.5px",
    ".name": "font-size:12px;font-weight:600",
    ".label": "font-size:10.5px",
    ".value": "font-size:12.5px",
    ".count": "paint-order:stroke;stroke-width:3px;stroke-linejoin:round",
    ".grid": "stroke-width:1",
    ".queued": "stroke-width:1.5;fill:none",
    ".backoff": "stroke-width:1.5;stroke-dasharray:3 3;fill:none",
    ".handover": "stroke-width:1.2;fill:none",
    ".cross": "stroke-width:2.2;stroke-linecap:round;fill:none",
    ".stop": "stroke-width:2.2;stroke-linecap:round;fill:none",
    ".halo": "stroke-width:5.5;stroke-linecap:round;fill:none",
    ".hatch": "stroke-width:1.6",
    ".percentile": "stroke-width:1.2;fill:none",
    ".percent": "font-size:10.5px;font-weight:600",
    ".flow": "stroke-opacity:.6;fill:none",
    ".lost-way": "stroke-dasharray:4 3",
    ".figure": "paint-order:stroke;stroke-width:3.5px;stroke-linejoin:round",
}


def stylesheet(scope: str) -> str:
    """Rules for light and dark, all below the class `scope`."""
    dark = _rules(_DARK, scope)
    return f"{_rules(_SHAPE, scope)}{_rules(_LIGHT, scope)}@media (prefers-color-scheme:dark){{{dark}}}"


def _rules(table: dict[str, str], scope: str) -> str:
    return "".join(
        ",".join(f".{scope} {one}" for one in selector.split(",")) + f"{{{rule}}}"
        for selector, rule in table.items()
    )


def foreign(text: str, limit: int = 120) -> str:
    """Text from a log, fit for XML: no control characters (XML 1.0, section 2.2), nothing that opens a tag."""
    return escape(clean(text, limit), quote=True)


def number(value: float) -> str:
    """A coordinate: a tenth of a pixel is as fine as eyes go."""
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text


def tag(name: str, content: str | None = None, /, **attributes: str | float) -> str:
    """An element. `content` is XML already; an underscore in an attribute's name is a hyphen."""
    parts = [name]
    for key, value in attributes.items():
        written = value if isinstance(value, str) else number(value)
        parts.append(f'{key.rstrip("_").replace("_", "-")}="{written}"')
    head = " ".join(parts)
    return f"<{head}/>" if content is None else f"<{head}>{content}</{name}>"


def width(text: str, size: float, *, bold: bool = False) -> float:
    """About how wide a text is in pixels at a font size: rather too much, since the font is the reader's."""
    total = 0.0
    for character in text:
        if unicodedata.combining(character):
            continue
        if unicodedata.east_asian_width(character) in "WF":
            total += 1.05
        elif character in _NARROW:
            total += 0.36
        elif character in _BROAD or not character.isascii():
            total += 0.92
        else:
            total += 0.68 if character.isupper() else 0.6
    return total * size * (1.06 if bold else 1.0)


def fit(text: str, room: float, size: float, *, bold: bool = False) -> str:
    """`text`, with its middle taken out if it is wider than `room` pixels: names differ at both ends.

    Empty if not even a few characters fit.
    """
    text = clean(text, 400)
    if width(text, size, bold=bold) <= room:
        return text
    keep = len(text) - 1
    while keep >= 2:
        short = f"{text[: (keep + 1) // 2]}…{text[len(text) - keep // 2 :]}"
        if width(short, size, bold=bold) <= room:
            return short
        keep -= 1
    return ""

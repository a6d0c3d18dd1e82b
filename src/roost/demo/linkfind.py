"""The links of a Markdown text, as they stand there. Pure; nothing is looked up.

Found are inline links and images, reference links with their definitions, autolinks, and `href` and `src` of HTML
tags; not what stands in code. The rules are CommonMark's (https://spec.commonmark.org/0.31.2/#links), followed in
one pass: a stranger's text of nothing but brackets must not take minutes.
"""

from __future__ import annotations

import html
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from roost.demo.markdown import without_blocks, without_spans

_LONGEST = 4000  # characters of one destination or title
_LABEL = 1000  # characters of a label, with its brackets (CommonMark: 999 inside)
_DEEPEST = 8  # parentheses inside each other in a destination (CommonMark: at least three)

_bracket = re.compile(r"\\.|!?\[|\]", re.DOTALL)
_definition = re.compile(
    r"^ {0,3}\[([^\[\]\n]{1,999})\]:[ \t]*\n?[ \t]*(<[^<>\n]*>|[^\s<]\S*)[^\n]*", re.MULTILINE
)
_attribute = re.compile(
    r"""<(?:a|img)\b[^<>]*?\s(?:href|src)\s*=\s*(?:"([^"<>]*)"|'([^'<>]*)'|([^\s"'<>]+))""", re.IGNORECASE
)
_autolink = re.compile(r"<(?:[a-zA-Z][a-zA-Z0-9+.-]{1,31}:[^\s<>]*|[^\s<>@]{1,200}@[^\s<>@]{1,200})>")
_bare = re.compile(r"(?:^|(?<=[\s(*_~]))https?://[^\s<>)]+")
_label = re.compile(r"\[([^\[\]]{0,999})\]")
_angled = re.compile(r"<((?:\\.|[^<>\\\n])*)>")
_blanks = re.compile(r"[ \t]*\n?[ \t]*")
_title = re.compile(
    r"""(?:[ \t]+\n?[ \t]*|[ \t]*\n[ \t]*)("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\((?:\\.|[^()\\])*\))"""
)
_escape = re.compile(r"\\([!-/:-@\[-`{-~])")
_not_newline = re.compile(r"[^\n]")


@dataclass(frozen=True, slots=True)
class Link:
    """A link: the line it begins in, from 1, and where it leads, percent-encoded as it was written.

    `target` is None if it names a definition that is not there; `label` is then its name.
    """

    line: int
    target: str | None
    label: str = ""


def find_links(text: str) -> list[Link]:
    """All links of a Markdown text, in order."""
    outside = without_spans(without_blocks(text))
    lines = _Lines(outside)
    found: list[tuple[int, Link]] = []
    definitions: dict[str, str] = {}

    def define(one: re.Match[str]) -> str:
        if one[1].startswith("^"):  # a footnote
            return one.group()
        target = unescape(one[2].removeprefix("<").removesuffix(">") if one[2].startswith("<") else one[2])
        definitions.setdefault(_normal(one[1]), target)
        found.append((one.start(), Link(lines.number(one.start()), target)))
        return _not_newline.sub(" ", one.group())

    rest = _definition.sub(define, outside)
    for pattern in (_autolink, _attribute):
        for one in pattern.finditer(rest):
            target = next((group for group in one.groups() if group is not None), one.group()[1:-1])
            if pattern is _autolink and ":" not in target:
                target = f"mailto:{target}"
            found.append((one.start(), Link(lines.number(one.start()), html.unescape(target).strip())))
        rest = (
            pattern.sub(lambda one: _not_newline.sub(" ", one.group()), rest)
            if pattern is _autolink
            else rest
        )
    spans: list[tuple[int, int]] = []
    for begin, end, target, label in _bracketed(rest, definitions):
        spans.append((begin, end))
        found.append((begin, Link(lines.number(begin), target, label)))
    used = _blanked(rest, spans)
    found += [(one.start(), Link(lines.number(one.start()), one.group())) for one in _bare.finditer(used)]
    return [link for _, link in sorted(found, key=lambda pair: pair[0])]


def _bracketed(text: str, definitions: dict[str, str]) -> Iterator[tuple[int, int, str | None, str]]:
    """Links in brackets: where each begins, the end of its destination, the target, the missing label."""
    opened: list[int] = []
    skip = 0
    for one in _bracket.finditer(text):
        sign = one.group()
        if one.start() < skip or sign[0] == "\\":
            continue
        if sign[-1] == "[":
            opened.append(one.start())
            continue
        if not opened:
            continue
        begin, end = opened.pop(), one.end()
        following = text[end : end + 1]
        if following == "(":
            inline = _inline(text, end + 1)
            if inline is not None:
                yield begin, inline[1], inline[0], ""
                skip = inline[1]
                continue
        full = _label.match(text, end) if following == "[" else None
        own = text[begin:end].lstrip("!")[1:-1] if end - begin <= _LABEL else ""
        label = _normal((full and full[1]) or own)
        if label in definitions:
            skip = full.end() if full else end
            continue  # what the definition says is looked at once, where it stands
        is_word = begin > 0 and (text[begin - 1].isalnum() or text[begin - 1] in "_])")
        if full and full[1] and label and not label.startswith("^") and not is_word:
            yield begin, full.end(), None, label
            skip = full.end()


def _inline(text: str, at: int) -> tuple[str, int] | None:
    """Destination and end of `(dest "title")`, after its opening parenthesis; None if it is none."""
    at = _end(_blanks.match(text, at), at)
    angled = _angled.match(text, at, at + _LONGEST)
    if angled:
        target, at = angled[1], angled.end()
    else:
        begin, depth = at, 0
        border = min(len(text), at + _LONGEST)
        while at < border and text[at] > " ":
            if text[at] == "\\" and at + 1 < border and text[at + 1] > " ":
                at += 1
            elif text[at] == "(":
                depth += 1
                if depth > _DEEPEST:
                    return None
            elif text[at] == ")":
                if depth == 0:
                    break
                depth -= 1
            at += 1
        target = text[begin:at]
        if depth or (target.startswith("<")):
            return None
    titled = _title.match(text, at, at + _LONGEST)
    at = _end(titled, at)
    at = _end(_blanks.match(text, at), at)
    return (unescape(target), at + 1) if text[at : at + 1] == ")" else None


def unescape(target: str) -> str:
    """A destination without backslash escapes and entities."""
    return html.unescape(_escape.sub(r"\1", target))


def _end(found: re.Match[str] | None, otherwise: int) -> int:
    return otherwise if found is None else found.end()


def _normal(label: str) -> str:
    return " ".join(label.split()).casefold()


def _blanked(text: str, spans: list[tuple[int, int]]) -> str:
    pieces: list[str] = []
    done = 0
    for begin, end in sorted(spans):
        if begin >= done:
            pieces += text[done:begin], _not_newline.sub(" ", text[begin:end])
            done = end
    return "".join([*pieces, text[done:]])


class _Lines:
    """Line numbers of places that come in nearly any order."""

    def __init__(self, text: str) -> None:
        self._starts = [0, *(one.end() for one in re.finditer("\n", text))]

    def number(self, at: int) -> int:
        return bisect_right(self._starts, at)

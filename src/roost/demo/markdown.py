"""As much Markdown as an audit needs: what is code, which headings there are, which anchors they make. Pure.

Not a renderer: CommonMark's blocks are followed as far as they decide whether a `#` or a `[` means anything.
Every step is linear in the text, since the text is a stranger's.

Anchors are GitHub's: the text of a heading in lower case, without everything but letters, marks, digits, `_`, `-`
and blanks, blanks as hyphens; a second of the same name gets `-1` (the algorithm of its html-pipeline, as
https://github.com/Flet/github-slugger has it).
"""

from __future__ import annotations

import html
import re
import unicodedata
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

LONGEST = 300
"""Characters of a heading that are looked at."""

_fence = re.compile(r"([ \t>]*)(?:(?:[-*+]|[0-9]{1,9}[.)])[ \t]+)?(`{3,}|~{3,})([^\n]*)").match
_list_item = re.compile(r"[ \t]*(?:[-*+]|[0-9]{1,9}[.)])(?:[ \t]|$)").match
_not_newline = re.compile(r"[^\n]")
_blank_line = re.compile(r"\n[ \t]*\n")
_ticks = re.compile(r"`+")
_atx = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*))?$").match
_closing = re.compile(r"(?:^|[ \t])#+$")
_underline = re.compile(r" {0,3}(=+|-+)[ \t]*$").match
_html_heading = re.compile(r"[ \t]*<h([1-6])\b[^<>]*>(.*)</h[1-6]>", re.IGNORECASE).match
_identified = re.compile(r"""<[a-zA-Z][^<>]*\s(?:id|name)\s*=\s*["']?([^"'\s<>]+)""", re.IGNORECASE).finditer


@dataclass(frozen=True, slots=True)
class Title:
    """A heading: its level 1 to 6, its line from 1, its text as it was written."""

    level: int
    line: int
    text: str


def without_blocks(text: str) -> str:
    """`text` with front matter, fenced and indented code and comments blanked; lines stay where they are."""
    lines = text.replace("\r\n", " \n").replace("\r", "\n").split("\n")
    begin = _front_matter(lines)
    out = [""] * begin
    fence = quote = ""
    in_list = in_code = False
    was_blank = True
    for line in lines[begin:]:
        if fence:
            bare = line.lstrip(" \t>").rstrip()
            left_quote = bool(quote) and not line.lstrip().startswith(">")
            if left_quote or (len(bare) >= len(fence) and not bare.strip(fence[0])):
                fence = ""
            if not left_quote:
                out.append("")
                continue
        opened = _fence(line)
        if opened and not (opened[2][0] == "`" and "`" in opened[3]):
            fence, quote = opened[2], ">" if ">" in opened[1] else ""
            out.append("")
            was_blank = in_code = False
            continue
        blank = not line.strip()
        indented = line.startswith(("    ", "\t"))
        if not blank:
            in_code = indented and not in_list and (was_blank or in_code)
            if not indented:
                in_list = bool(_list_item(line)) or (in_list and (line[0] in " \t" or not was_blank))
        out.append("" if in_code else line)
        was_blank = blank
    return _without_comments("\n".join(out))


def _without_comments(text: str) -> str:
    pieces: list[str] = []
    done = 0
    while (begin := text.find("<!--", done)) >= 0 and (end := text.find("-->", begin + 4)) >= 0:
        pieces += text[done:begin], _not_newline.sub(" ", text[begin : end + 3])
        done = end + 3
    return "".join([*pieces, text[done:]])


def _front_matter(lines: list[str]) -> int:
    """How many lines at the beginning are front matter (between two lines of `---`)."""
    if lines[0].rstrip() != "---":
        return 0
    ends = (number for number, line in enumerate(lines[1:200], 2) if line.rstrip() in ("---", "..."))
    return next(ends, 0)


def without_spans(text: str) -> str:
    """`text` with code spans blanked too. A span ends with as many backticks as it began, in its paragraph."""
    runs = [(found.start(), found.end()) for found in _ticks.finditer(text)]
    if not runs:
        return text
    ends = [found.start() for found in _blank_line.finditer(text)]
    by_length: dict[int, list[int]] = defaultdict(list)
    for begin, end in runs:
        by_length[end - begin].append(begin)
    pieces: list[str] = []
    done = 0
    for begin, end in runs:
        if begin < done:
            continue
        before = text[max(0, begin - 20) : begin]
        if (len(before) - len(before.rstrip("\\"))) % 2:
            continue
        same = by_length[end - begin]
        at = bisect_right(same, begin)
        border = bisect_right(ends, begin)
        if at < len(same) and (border == len(ends) or same[at] < ends[border]):
            stop = same[at] + end - begin
            pieces += text[done:begin], _not_newline.sub(" ", text[begin:stop])
            done = stop
    return "".join([*pieces, text[done:]])


def find_headings(text: str) -> Iterator[Title]:
    """The headings of a text `without_blocks`, in order: `# ...`, underlined, and `<h1>`."""
    paragraph: list[str] = []
    for number, whole in enumerate(text.split("\n"), 1):
        line = whole[:LONGEST].rstrip()
        atx = _atx(line)
        underline = _underline(line)
        if atx is not None:
            yield Title(len(atx[1]), number, _closing.sub("", (atx[2] or "").strip()).strip())
            paragraph = []
        elif underline is not None and paragraph:
            level = 1 if underline[1][0] == "=" else 2
            yield Title(level, number - len(paragraph), " ".join(paragraph)[:LONGEST])
            paragraph = []
        elif (tagged := _html_heading(line)) is not None:
            yield Title(int(tagged[1]), number, plain(tagged[2]))
            paragraph = []
        elif not line.strip() or line.lstrip().startswith((">", "|", "<")) or _list_item(line):
            paragraph = []
        elif paragraph or not line.startswith("    "):
            paragraph = [*paragraph[-20:], line.strip()]


def anchors(text: str) -> frozenset[str]:
    """Everything that `#...` may name in a Markdown text: its headings, and ids and names of tags. Lower case."""
    outside = without_blocks(text)
    found = set(slugs(title.text for title in find_headings(outside)))
    found.update(html.unescape(one[1]).lower() for one in _identified(without_spans(outside)))
    return frozenset(found)


def slugs(headings: Iterable[str]) -> Iterator[str]:
    """The anchors of headings, in order; equal ones are numbered."""
    seen: dict[str, int] = {}
    for heading in headings:
        base = name = slug(plain(heading))
        while name in seen:
            seen[base] += 1
            name = f"{base}-{seen[base]}"
        seen[name] = 0
        yield name


def slug(text: str) -> str:
    """The anchor of a heading whose text is `text`, if it were the only one."""
    kept = (one for one in text.lower() if one in "- " or _is_word(one))
    return "".join("-" if one == " " else one for one in kept)


def _is_word(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] in "LM" or category in ("Nd", "Nl", "Pc")


_spans = re.compile(r"(`+)(?!`)(.+?)(?<!`)\1(?!`)")
_image = re.compile(r"!\[[^\[\]]*\](?:\([^()]*\)|\[[^\[\]]*\])?")
_link = re.compile(r"\[([^\[\]]*)\](?:\([^()]*\)|\[[^\[\]]*\])")
_tag = re.compile(r"</?[a-zA-Z][^<>]*>")
_underscores = re.compile(r"(?<![^\W_])_{1,3}(?=\S)([^_]*(?:_[^_]+)*?)(?<=\S)_{1,3}(?![^\W_])")
_escape = re.compile(r"\\([!-/:-@\[-`{-~])")


def plain(heading: str) -> str:
    """The text of a heading as a reader sees it: markup taken away, what stands in code spans kept."""
    pieces: list[str] = []
    done = 0
    heading = heading[:LONGEST].strip()
    for span in _spans.finditer(heading):
        pieces += _unmarked(heading[done : span.start()]), span[2].strip()
        done = span.end()
    return "".join([*pieces, _unmarked(heading[done:])])


def _unmarked(text: str) -> str:
    text = _tag.sub("", _link.sub(r"\1", _image.sub("", text)))
    text = _underscores.sub(r"\1", text.replace("\\*", "").replace("\\_", "\0").replace("*", ""))
    return html.unescape(_escape.sub(r"\1", text.replace("\0", "_")))

"""What is in a text: its kind, its size, its headings, its TODO and FIXME marks. Pure."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from roost._text import clean
from roost.demo.contracts import MOST, TEXT, Digest, Heading, Mark
from roost.demo.markdown import find_headings, without_blocks

_KINDS = {
    "Markdown": "md markdown",
    "reStructuredText": "rst",
    "text": "txt text log",
    "Python": "py pyi pyw",
    "notebook": "ipynb",
    "JavaScript": "js mjs cjs jsx",
    "TypeScript": "ts tsx mts cts",
    "HTML": "html htm xhtml",
    "CSS": "css scss sass less",
    "C": "c h",
    "C++": "cc cpp cxx hh hpp hxx",
    "C#": "cs",
    "Go": "go mod",
    "Rust": "rs",
    "Java": "java",
    "Kotlin": "kt kts",
    "Ruby": "rb",
    "PHP": "php",
    "Swift": "swift",
    "SQL": "sql",
    "shell": "sh bash zsh fish",
    "JSON": "json jsonl jsonc",
    "YAML": "yaml yml",
    "TOML": "toml",
    "XML": "xml svg xsd xslt",
    "configuration": "ini cfg conf properties env",
    "data": "csv tsv",
}
_BY_SUFFIX = {suffix: kind for kind, suffixes in _KINDS.items() for suffix in suffixes.split()}
_BY_NAME = {
    "makefile": "Make",
    "dockerfile": "Docker",
    "license": "text",
    "copying": "text",
    "readme": "text",
    "notice": "text",
}
OTHER = "other"

_mark = re.compile(r"\b(TODO|FIXME)\b").search


def kind_of(path: str) -> str:
    """The kind of a file by its name, such as "Python"; "other" if that says nothing."""
    pure = PurePosixPath(path.lower())
    return _BY_SUFFIX.get(pure.suffix[1:]) or _BY_NAME.get(pure.name) or OTHER


def is_markdown(path: str) -> bool:
    return kind_of(path) == "Markdown"


def digest_text(path: str, text: str, size: int) -> Digest:
    """The digest of a file of `size` bytes. Headings are those of Markdown, outside of code."""
    headings = list(find_headings(without_blocks(text))) if is_markdown(path) else []
    marks = find_marks(text)
    return Digest(
        path=path,
        kind=kind_of(path),
        bytes=size,
        lines=text.count("\n") + (not text.endswith("\n") and text != ""),
        words=len(text.split()),
        headings=[
            Heading(level=one.level, line=one.line, text=clean(one.text, TEXT)) for one in headings[:MOST]
        ],
        marks=marks[:MOST],
        more_headings=max(0, len(headings) - MOST),
        more_marks=max(0, len(marks) - MOST),
    )


def find_marks(text: str) -> list[Mark]:
    """Lines with TODO or FIXME as a word of its own: not in `TODO_LIST`, not in lower case."""
    marks = []
    for number, line in enumerate(text.split("\n"), 1):
        found = _mark(line)
        if found is not None:
            begin = max(0, found.start() - TEXT // 2)  # of a line of a megabyte, the part around the word
            shown = clean(line[begin : begin + 2 * TEXT].strip(), TEXT)
            marks.append(Mark(word="TODO" if found[1] == "TODO" else "FIXME", line=number, text=shown))
    return marks

"""What is in a text."""

from __future__ import annotations

import pytest

from roost.demo.contracts import MOST, TEXT, digest
from roost.demo.digest import digest_text, find_marks, kind_of


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("README.md", "Markdown"),
        ("a/b.PY", "Python"),
        ("Makefile", "Make"),
        ("LICENSE", "text"),
        (".env", "other"),
        ("x.unknown", "other"),
        ("pyproject.toml", "TOML"),
    ],
)
def test_the_kind_follows_from_the_name(path: str, kind: str) -> None:
    assert kind_of(path) == kind


@pytest.mark.parametrize(
    ("text", "lines", "words"), [("", 0, 0), ("a", 1, 1), ("a b\n", 1, 2), ("\n\n", 2, 0), ("a\nb", 2, 2)]
)
def test_lines_and_words_are_counted(text: str, lines: int, words: int) -> None:
    found = digest_text("x.txt", text, 7)
    assert (found.lines, found.words, found.bytes) == (lines, words, 7)


def test_marks_are_whole_words_in_capitals_with_their_lines() -> None:
    text = "TODO: one\ntodo no\nTODOS no\nTODO_LIST no\n# FIXME two\n(TODO)\nxTODO no\n"
    assert [(one.word, one.line) for one in find_marks(text)] == [("TODO", 1), ("FIXME", 5), ("TODO", 6)]


def test_a_mark_in_a_line_without_end_shows_the_part_around_it() -> None:
    (mark,) = find_marks("x" * 1_000_000 + " TODO here " + "y" * 1_000_000)
    assert "TODO here" in mark.text
    assert len(mark.text) <= TEXT


def test_headings_are_those_of_markdown_only() -> None:
    text = "# Title\n```\n# comment\n```\n"
    assert [(one.level, one.line, one.text) for one in digest_text("a.md", text, 1).headings] == [
        (1, 1, "Title")
    ]
    assert digest_text("a.py", text, 1).headings == []


def test_a_file_of_nothing_but_headings_and_marks_fits_into_a_message() -> None:
    text = "# TODO \x1b\u202e" + "€" * 3000 + "\n"
    found = digest_text("a.md", text * 400, 1)
    assert (len(found.headings), found.more_headings) == (MOST, 200)
    assert (len(found.marks), found.more_marks) == (MOST, 200)
    assert len(digest.output_codec.encode(found, subject="test")) <= digest.limits.max_bytes
    assert all(one.text.isprintable() for one in found.headings)
    assert all(one.text.isprintable() for one in found.marks)

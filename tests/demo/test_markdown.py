"""Headings, anchors and code, as GitHub has them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roost.demo.markdown import anchors, find_headings, plain, slug, slugs, without_blocks, without_spans


def headings(text: str) -> list[tuple[int, int, str]]:
    return [(one.level, one.line, one.text) for one in find_headings(without_blocks(text))]


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("Getting started", "getting-started"),
        ("  What's new? (2.0)  ", "whats-new-20"),
        ("`roost up`: run agents", "roost-up-run-agents"),
        ("`a_b` and snake_case", "a_b-and-snake_case"),
        ("*Very* __bold__ _words_", "very-bold-words"),
        ("[Linked](https://x.y/z) text", "linked-text"),
        ("![logo](logo.png) Name", "-name"),
        ("🚀 Start", "-start"),
        ("A  B", "a--b"),
        ("A & B", "a--b"),
        ("Übergröße Straße", "übergröße-straße"),
        ("日本語 の 見出し", "日本語-の-見出し"),
        ("नमस्ते", "नमस्ते"),
        ("x² + 1", "x--1"),
        ("<b>Tag</b> &amp; entity", "tag--entity"),
        (r"C\# and \*stars\*", "c-and-stars"),
    ],
)
def test_a_heading_makes_the_anchor_that_github_makes(heading: str, anchor: str) -> None:
    assert slug(plain(heading)) == anchor


def test_equal_headings_are_numbered_and_a_number_already_taken_is_passed_over() -> None:
    assert list(slugs(["a", "a", "a-1", "a", "b"])) == ["a", "a-1", "a-1-1", "a-2", "b"]
    assert list(slugs(["a-1", "a-2", "a", "a"])) == ["a-1", "a-2", "a", "a-3"]


@settings(deadline=None)
@given(st.lists(st.text(alphabet="ab-1 _`*[]", max_size=6), max_size=12))
def test_no_two_headings_share_an_anchor(texts: list[str]) -> None:
    found = list(slugs(texts))
    assert len(found) == len(texts)
    assert len(set(found)) == len(found)


@settings(deadline=None)
@given(st.text(max_size=80))
def test_an_anchor_has_no_blanks_and_is_in_lower_case(text: str) -> None:
    found = slug(plain(text))
    assert not any(one.isspace() for one in found)
    assert not set(found) & set("#?/.,:;()<>\"'`~!@$%^&*+=|\\")


def test_headings_of_all_forms_are_found_with_their_lines() -> None:
    text = "# One #\n\nTwo\n===\n\nlong\nThree\n---\n\n###### Six\n<h2 align=center>Tagged</h2>\n#No\n####### No\n"
    assert headings(text) == [
        (1, 1, "One"),
        (1, 3, "Two"),
        (2, 6, "long Three"),
        (6, 10, "Six"),
        (2, 11, "Tagged"),
    ]


@pytest.mark.parametrize(
    "code",
    [
        "```\n# no\n```\n",
        "~~~ python\n# no\n```\n# no\n~~~\n",
        "````\n```\n# no\n````\n",
        "- item\n\n  ```sh\n  # no\n  ```\n",
        "- ```\n  # no\n  ```\n",
        "> ```\n> # no\n> ```\n",
        "\n    # no\n",
        "<!-- # no\n# no\n-->\n",
        "```\n# no, and never closed\n",
    ],
)
def test_what_stands_in_code_or_comments_is_no_heading(code: str) -> None:
    assert headings(code) == []


def test_code_ends_where_it_ends() -> None:
    assert headings("```\n# no\n```\n# yes\n") == [(1, 4, "yes")]
    assert headings("> ```\n> # no\n# yes\n") == [(1, 3, "yes")]
    assert headings("`` ``` `` is no fence\n# yes\n") == [(1, 2, "yes")]


def test_front_matter_is_no_heading_but_a_rule_is_no_front_matter() -> None:
    assert headings("---\ntitle: x\n---\n# yes\n") == [(1, 4, "yes")]
    assert headings("text\n\n---\n\n# yes\n") == [(1, 5, "yes")]


def test_list_items_keep_their_indented_paragraphs() -> None:
    assert "[a](b)" in without_blocks("- item\n\n    [a](b)\n")
    assert "[a](b)" not in without_blocks("text\n\n    [a](b)\n")


@settings(deadline=None)
@given(st.text(alphabet="`~#->\n \\ab![]()", max_size=200))
def test_blanking_moves_no_line(text: str) -> None:
    outside = without_blocks(text)
    assert outside.count("\n") == text.count("\n")
    assert [len(a) for a in without_spans(outside).split("\n")] == [len(b) for b in outside.split("\n")]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a `b` c", "a     c"),
        ("``b ` c`` d", "          d"),
        ("`not closed", "`not closed"),
        ("`one\n\ntwo`", "`one\n\ntwo`"),
        (r"\`no` yes`", r"\`no      "),
        ("`a` and `b", "    and `b"),
    ],
)
def test_code_spans_are_blanked(text: str, left: str) -> None:
    assert without_spans(text) == left


def test_anchors_are_headings_and_names_of_tags_outside_of_code() -> None:
    text = '# A\n# A\n<a id="here"></a> <a name=There> <div class="x" id=\'box\'>\n`<a id="not">`\n'
    assert anchors(text) == {"a", "a-1", "here", "there", "box"}


@pytest.mark.parametrize(
    "hostile", ["`", "``` ` ", "<!--", "<a ", "# _a", "[", "> ", "<a id", "\\", "*_`", "a\n===\n"]
)
def test_hostile_text_takes_no_longer_than_its_length_deserves(hostile: str) -> None:
    text = hostile * (200_000 // len(hostile))
    began = time.process_time()
    anchors(text)
    assert time.process_time() - began < 5

"""Links of Markdown lead somewhere, or are reported with their line and the reason."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from roost.demo.contracts import MOST, links
from roost.demo.linkfind import find_links
from roost.demo.links import check_links, is_external

GUIDE = '# Guide\n\n## Set up\n\n## Set up\n\n<a id="old-name"></a>\n'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "docs" / "deep").mkdir(parents=True)
    (tmp_path / "README.md").write_text("# Top\n")
    (tmp_path / "docs" / "guide.md").write_text(GUIDE)
    (tmp_path / "docs" / "with space.md").write_text("# X\n")
    (tmp_path / "docs" / "pic(1).png").write_bytes(b"\0")
    (tmp_path / "code.py").write_text("pass\n")
    return tmp_path


def broken(root: Path, text: str, path: str = "docs/page.md") -> list[tuple[int, str, str]]:
    return [(one.line, one.target, one.reason) for one in check_links(str(root), path, text).broken]


@pytest.mark.parametrize(
    "link",
    [
        "[a](guide.md)",
        "[a](./guide.md)",
        "[a](../README.md)",
        "[a](/README.md)",
        "[a](deep)",
        "[a](deep/)",
        "[a](..)",
        '[a](guide.md "title")',
        "[a](guide.md 'title')",
        "[a]( guide.md\n(title) )",
        "[a](with%20space.md)",
        "[a](<with space.md>)",
        "[a](pic(1).png)",
        r"[a](pic\(1\).png)",
        "[a](guide.md?plain=1)",
        "![a](pic%281%29.png)",
        "[![a](pic(1).png)](guide.md)",
        "[a [nested] b](guide.md)",
        "[a](guide.md#set-up)",
        "[a](guide.md#set-up-1)",
        "[a](guide.md#Set-Up)",
        "[a](guide.md#old-name)",
        "[a](../code.py#L3-L5)",
        "[a](../code.py#anything)",
        "[a](..#top)",
        "[a](#here)\n\n# Here",
        "[a](#)",
        "[a](#top)",
        "[a]()",
        "[a][ref]\n\n[ref]: guide.md",
        "[Ref  a][]\n\n[ref A]: <guide.md> 'title'",
        "[ref]\n\n[ref]:\n  guide.md",
        '<a href="guide.md">x</a> <img src=pic(1).png>',
        "[a](guide.md&#35;set-up)",
    ],
)
def test_a_link_that_leads_somewhere_is_no_fault(root: Path, link: str) -> None:
    found = check_links(str(root), "docs/page.md", link)
    assert found.broken == []
    assert found.checked >= 1


@pytest.mark.parametrize(
    ("link", "target", "reason"),
    [
        ("[a](gone.md)", "gone.md", "no such file"),
        ("[a](README.md)", "README.md", "no such file"),
        ("![a](gone.png)", "gone.png", "no such file"),
        ("[![a](gone.png)](guide.md)", "gone.png", "no such file"),
        ("[a](guide.md/x)", "guide.md/x", "no such file"),
        ("[a](guide.md#gone)", "guide.md#gone", "no such anchor there"),
        ("[a](guide.md#set-up-2)", "guide.md#set-up-2", "no such anchor there"),
        ("[a](#gone)", "#gone", "no such anchor here"),
        ("[a](../../etc/passwd)", "../../etc/passwd", "leaves the audited folder"),
        ("[a](%2e%2e/%2e%2e/x)", "%2e%2e/%2e%2e/x", "leaves the audited folder"),
        ("[a](deep/../../../x)", "deep/../../../x", "leaves the audited folder"),
        ("[a](x%00y)", "x%00y", "no such file"),
        ("[a][gone]", "[gone]", "no definition of this label"),
        ("[a][ref]\n\n[ref]: gone.md", "gone.md", "no such file"),
        ('<img alt="x" src="gone.png">', "gone.png", "no such file"),
        ("[a](..#gone)", "..#gone", "no such anchor there"),
        ("[a](" + "x" * 300 + ")", "x" * 199 + "…", "no such file"),
    ],
)
def test_a_link_that_leads_nowhere_is_told_with_its_reason(
    root: Path, link: str, target: str, reason: str
) -> None:
    assert [found[1:] for found in broken(root, link)] == [(target, reason)]


@pytest.mark.parametrize(
    "text",
    [
        "`[a](gone.md)`",
        "```\n[a](gone.md)\n```",
        "\n    [a](gone.md)\n",
        "<!-- [a](gone.md) -->",
        r"\[a](gone.md)",
        "[a] (gone.md)",
        "[a](gone .md)",
        "- [ ] task\n- [x] done",
        "matrix[i][j]",
        "a footnote[^1]\n\n[^1]: words here",
        "[plain brackets]",
        "`code [a`](gone.md)",
    ],
)
def test_what_is_no_link_is_not_checked(root: Path, text: str) -> None:
    found = check_links(str(root), "docs/page.md", text)
    assert (found.checked, found.broken) == (0, [])


def test_the_line_is_that_of_the_link(root: Path) -> None:
    text = "one\n[a](gone.md) and\r\n![b](x.png)\n```\n[no](no)\n```\n[c][r]\n\n[r]: y.md\n"
    assert [(line, target) for line, target, _ in broken(root, text)] == [
        (2, "gone.md"),
        (3, "x.png"),
        (9, "y.md"),
    ]


def test_the_web_is_counted_and_not_asked(root: Path) -> None:
    text = "[a](https://x.y) <https://x.y> <me@x.y> [m](mailto:a@b.c) //x http://bare.one, [p](//host/x)\n\n[r]: HTTP://x"
    found = check_links(str(root), "docs/page.md", text)
    assert (found.checked, found.external) == (0, 7)


@pytest.mark.parametrize(
    ("target", "external"),
    [("https://x", True), ("mailto:x", True), ("//x/y", True), ("c:x", False), ("a/b:c", False)],
)
def test_a_scheme_or_a_host_makes_a_target_external(target: str, external: bool) -> None:
    assert is_external(target) is external


def test_a_link_through_a_symbolic_link_out_of_the_folder_reads_nothing_there(root: Path) -> None:
    outside = root.parent / "outside.md"
    outside.write_text("# Secret\n")
    (root / "docs" / "out.md").symlink_to(outside)
    assert broken(root, "[a](out.md#secret)") == []
    assert broken(root, "[a](out.md#guess)") == []


def test_anchors_are_read_again_when_a_file_has_changed(root: Path) -> None:
    assert broken(root, "[a](guide.md#new)") != []
    (root / "docs" / "guide.md").write_text(GUIDE + "# New\n")
    assert broken(root, "[a](guide.md#new)") == []


def test_thousands_of_broken_links_fit_into_a_message(root: Path) -> None:
    found = check_links(str(root), "docs/page.md", ("[a](" + "€" * 900 + ")\n") * 1000)
    assert (len(found.broken), found.more_broken) == (MOST, 1000 - MOST)
    assert len(links.output_codec.encode(found, subject="test")) <= links.limits.max_bytes


@pytest.mark.parametrize(
    "hostile",
    [
        "[",
        "[]",
        "[](",
        "![",
        "[a](b",
        "[a][",
        "](",
        "[a]: ",
        "<a href=",
        "<a@",
        "[](<",
        '[](a "',
        "\\[",
        "[]((((",
    ],
)
def test_hostile_text_takes_no_longer_than_its_length_deserves(hostile: str) -> None:
    text = hostile * (200_000 // len(hostile))
    began = time.process_time()
    find_links(text)
    assert time.process_time() - began < 5

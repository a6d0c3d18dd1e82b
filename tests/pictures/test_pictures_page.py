"""docs/pictures.md shows what the code draws today, every picture of it, and its snippets are real."""

from __future__ import annotations

import ast
import re

import pytest
from drawn import drawn, labels_are_apart
from shown import DIRECTORY, pictures

import roost

PAGE = DIRECTORY.with_suffix(".md")
PICTURES = pictures()


@pytest.mark.parametrize("name", PICTURES)
def test_the_stored_picture_is_what_is_drawn_and_no_label_runs_into_another(name: str) -> None:
    root = drawn(PICTURES[name])
    labels_are_apart(root)
    stored = (DIRECTORY / f"{name}.svg").read_text(encoding="utf-8")
    assert stored == PICTURES[name].svg() + "\n", "run: python tests/pictures/shown.py"


def test_the_page_shows_each_picture_and_names_only_what_there_is() -> None:
    page = PAGE.read_text(encoding="utf-8")
    shown = re.findall(r"!\[[^\]]{20,}\]\(pictures/([a-z-]+)\.svg\)", page)
    assert sorted(shown) == sorted({one.stem for one in DIRECTORY.glob("*.svg")})
    assert set(PICTURES) <= set(shown)
    for name in re.findall(r"\broost\.([a-z_]+)\(", page):
        assert callable(getattr(roost, name))
    for snippet in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        compile(
            snippet, "docs/pictures.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        )  # await at the top level, as in a notebook

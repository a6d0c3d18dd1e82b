"""The stored notebooks are those of their sources, and show what they should and nothing of a machine."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import build
import nbformat
import pytest
from course_kit import SOURCES, stored

each = pytest.mark.parametrize("source", SOURCES, ids=lambda one: one.stem)


@each
def test_a_stored_notebook_has_the_cells_of_its_source(source: Path) -> None:
    assert source.with_suffix(".ipynb").exists(), f"make notebooks-build NAMES={source.stem}"
    made = [(cell.cell_type, cell.source, cell.id) for cell in build.read(source).cells]
    kept = [(cell.cell_type, cell.source, cell.id) for cell in stored(source).cells]
    assert made == kept, f"{source.stem} is stale: make notebooks-build NAMES={source.stem}"


@each
def test_a_stored_notebook_was_executed_in_order_and_shows_what_it_should(source: Path) -> None:
    book = stored(source)
    nbformat.validate(book)
    assert build.problems(book) == []
    counts = [cell.execution_count for cell in book.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert "Nothing is left." in build.shown(book)
    assert "Left open" not in build.shown(book)
    assert source.with_suffix(".ipynb").stat().st_size <= build.MAX_BYTES


@each
def test_every_exercise_has_a_solution_and_is_stored_unanswered(source: Path) -> None:
    exercises = [name for cell in build.read(source).cells for name in build.exercises_of(cell)]
    assert list(build.solutions(source)) == exercises
    assert 2 <= len(exercises) <= 3
    for name in exercises:
        assert f"Exercise {name.removeprefix('exercise-')}: not answered yet." in build.shown(stored(source))


@each
def test_a_solution_sets_what_its_exercise_asks_for(source: Path) -> None:
    """Otherwise the exercise was changed and its solution was not."""
    answers = build.solutions(source)
    for cell in build.read(source).cells:
        for name in build.exercises_of(cell):
            missing = names_set(cell.source) - names_set(answers[name])
            assert not missing, f"{source.stem}: the solution of {name} sets no {', '.join(sorted(missing))}"


def names_set(code: str) -> set[str]:
    """The variables, functions and classes that a cell makes."""
    tree = compile(code, "cell", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert isinstance(tree, ast.Module)
    made = {
        one.name
        for one in tree.body
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    assigned = [
        one for statement in tree.body if isinstance(statement, ast.Assign) for one in statement.targets
    ]
    return made | {one.id for one in assigned if isinstance(one, ast.Name)}


def test_every_solution_and_every_stored_notebook_has_its_source() -> None:
    names = {source.stem for source in SOURCES}
    assert {one.stem for one in build.SOLUTIONS.glob("*.py")} <= names
    assert {one.stem for one in build.HERE.glob("*.ipynb")} <= names


def output(**data: str) -> Any:
    kinds = {kind.replace("_", "/"): value for kind, value in data.items()}
    return nbformat.v4.new_output("display_data", data=kinds)


@pytest.mark.parametrize(
    ("outputs", "complaint"),
    [
        ([], "has no output"),
        (
            [nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])],
            "raised ValueError",
        ),
        ([nbformat.v4.new_output("stream", name="stderr", text="careful")], "stderr"),
        (
            [nbformat.v4.new_output("stream", name="stdout", text="\x1b[31mred\x1b[0m")],
            "of this machine or terminal",
        ),
        ([nbformat.v4.new_output("stream", name="stdout", text="see /home/ada/notes")], "of this machine"),
        ([output(text_plain="")], "empty output"),
        ([output(image_png="iVBO")], "pictures are SVG"),
        (
            [nbformat.v4.new_output("display_data", data={"image/svg+xml": "<svg><g/></svg>"})],
            "alternative text",
        ),
    ],
)
def test_what_a_stored_notebook_may_not_have_is_named(outputs: list[Any], complaint: str) -> None:
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("show()", outputs=outputs)])
    (found,) = build.problems(book)
    assert "cell 1 (show())" in found
    assert complaint in found

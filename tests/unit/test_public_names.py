"""The public names: all there, loaded when used, and cheap until then."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import roost


def test_every_public_name_can_be_had() -> None:
    missing = [name for name in roost.__all__ if not hasattr(roost, name)]
    assert missing == []


def test_what_contracts_are_made_of_is_public() -> None:
    """Bug: the page on large payloads said `limits=Limits(…)`, which could be imported only from a submodule."""
    options = {one for kind in (roost.Task, roost.Endpoint) for one in get_type_hints(kind).values()}
    ours = {one.__name__ for one in options if getattr(one, "__module__", "").startswith("roost.")}
    assert ours == {"Limits", "Retry"}
    assert ours <= set(roost.__all__)


def test_checkers_see_the_names_that_programs_get() -> None:
    source = Path(roost.__file__).read_text(encoding="utf-8")
    imported = {
        alias.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith("roost")
        for alias in node.names
    }
    assert imported == set(roost.__all__) - {"__version__"}


def test_importing_roost_and_its_agents_loads_nothing_of_the_command_line_or_the_server() -> None:
    program = "import roost, sys; roost.Agent, roost.connect; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    for heavy in (
        "typer",
        "rich",
        "click",
        "textual",
        "starlette",
        "jupyter",
        "IPython",
        "matplotlib",
        "pytest",
    ):
        assert heavy not in loaded
    for ours in (
        "roost.cli",
        "roost.server",
        "roost.pictures",
        "roost.testing",
        "roost.demo",
        "roost.runtime",
    ):
        assert ours not in loaded


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    assert not hasattr(roost, "nothing_of_the_kind")

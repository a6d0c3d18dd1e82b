"""From `module:agent` to an agent, or to one sentence on why there is none."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from roost.errors import ConfigError
from roost.runtime import load_agent


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that modules are imported from, and forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_an_agent_is_found_by_module_and_attribute(folder: Path) -> None:
    (folder / "shop_one.py").write_text("import roost\nclass Team:\n    packer = roost.Agent('p')\n")
    assert load_agent("shop_one:Team.packer").name == "p"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\ny = x / 0\n", "ZeroDivisionError: division by zero (shop_two.py, line 2)"),
        (
            "import nosuch_thing\n",
            "ModuleNotFoundError: No module named 'nosuch_thing' (shop_two.py, line 1)",
        ),
        ("def f(:\n", "SyntaxError: invalid syntax (shop_two.py, line 1)"),
        ("import sys\nsys.exit('no')\n", "SystemExit: no (shop_two.py, line 2)"),
        ("raise ValueError('a\\x1b[31m\\nb')\n", r"ValueError: a\x1b[31m\nb (shop_two.py, line 1)"),
        ("import roost\nroost.Agent('a b')\n", "UnsafeToken: name = 'a b' cannot stand in a subject"),
        ("import roost\nroost.Agent('a b')\n", "(shop_two.py, line 2)"),
    ],
)
def test_a_module_that_cannot_be_imported_is_told_with_the_place(
    folder: Path, source: str, message: str
) -> None:
    (folder / "shop_two.py").write_text(source)
    with pytest.raises(ConfigError) as error:
        load_agent("shop_two:agent")
    assert str(error.value).startswith("module shop_two cannot be imported: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_what_a_library_raises_is_told_with_the_line_of_the_users_own_code_that_called_it(
    folder: Path,
) -> None:
    (folder / "shop_six.py").write_text("import json\n\ndef read():\n    return json.loads('{')\n")
    (folder / "shop_seven.py").write_text("import shop_six\nCONFIG = shop_six.read()\n")
    with pytest.raises(ConfigError) as error:
        load_agent("shop_seven:agent")
    assert "JSONDecodeError: " in str(error.value)
    assert "(shop_six.py, line 4; raised in " in str(error.value)
    assert re.search(r"json.decoder\.py, line \d+\)$", str(error.value))


def test_a_mistake_in_the_syntax_of_another_module_is_told_with_who_imports_it(folder: Path) -> None:
    (folder / "shop_eight.py").write_text("x = 1\ndef f(:\n")
    (folder / "shop_nine.py").write_text("import shop_eight\n")
    with pytest.raises(ConfigError) as error:
        load_agent("shop_nine:agent")
    assert str(error.value).endswith("(shop_eight.py, line 2); imported in shop_nine.py, line 1")


def test_a_missing_module_is_told_with_where_it_was_looked_for(folder: Path) -> None:
    with pytest.raises(ConfigError, match="there is no module 'shop_three' "):
        load_agent("shop_three.agents:packer")


@pytest.mark.parametrize("target", ["", "a", "a:", ":b", "a:b:c", "a b:c", "a-b:c", "a:1"])
def test_a_target_that_is_none_is_refused_with_an_example(target: str) -> None:
    with pytest.raises(ConfigError, match="write module:agent, such as"):
        load_agent(target)

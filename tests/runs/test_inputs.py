"""Hashes of what a step was given: the same for equal inputs, in every process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from roost.runs.inputs import input_digest


class Page(BaseModel):
    path: str
    tags: set[str] = set()
    extra: Any = None


@dataclass
class Place:
    name: str
    at: tuple[int, int] = (0, 0)


class Colour(Enum):
    RED = 1


def of(*args: Any, **kwargs: Any) -> str:
    return input_digest(args, kwargs)


WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta"]
_PROGRAM = """
import json, sys
from pydantic import BaseModel
from roost.runs.inputs import input_digest
class Page(BaseModel):
    tags: set[str]
words = json.loads(sys.argv[1])
print(input_digest((set(words), frozenset(words), {"k": set(words)}, Page(tags=set(words))), {"x": set(words)}))
"""


def test_a_set_of_strings_has_the_same_hash_in_every_process() -> None:
    """The order of a set of strings is another one in each process; a hash of it would park runs for nothing."""
    found = set()
    for seed in ("1", "2", "3"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", _PROGRAM, json.dumps(WORDS)]
        found.add(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)
    assert len(found) == 1


def test_a_generator_given_to_a_step_is_not_consumed_by_hashing_it() -> None:
    given_one = (n for n in range(3))
    of(given_one)
    assert list(given_one) == [0, 1, 2]


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        1,
        1.5,
        "text",
        "\ud800 a lone surrogate",
        "a line\nbreak",
        b"\xff\x00",
        float("nan"),
        Decimal("1.20"),
        datetime(2026, 11, 22, tzinfo=UTC),
        UUID(int=7),
        Path("a/b"),
        Colour.RED,
        Place("here", (1, 2)),
        Page(path="p", tags={"a", "b"}),
        {"a": [1, {"b": {2, 3}}], (1, 2): "tuple key", 3: None},
    ],
)
def test_whatever_can_be_given_has_a_hash_that_repeats(value: Any) -> None:
    assert of(value) == of(value)
    assert of(value) != of([value, "and more"])


def test_equal_dicts_have_equal_hashes_in_whatever_order_they_were_made() -> None:
    assert of({"a": 1, "b": {"c": 2, "d": 3}}) == of({"b": {"d": 3, "c": 2}, "a": 1})
    assert of(a=1, b=2) == of(b=2, a=1)
    assert of(Page(path="p", extra={"x": {1, 2}, "y": 1})) == of(Page(path="p", extra={"y": 1, "x": {2, 1}}))


def test_other_values_have_other_hashes() -> None:
    values: list[Any] = [
        0, 1, "1", "", None, False, [], [[]], [1], ["1"], {1}, {"1": 1}, {1: "1"}, Page(path="a"), Page(path="b"),
        Page(path="a", tags={"t"}), Place("a"), Place("a", (0, 1)), b"a", "a", "61", 1.5, "1.5",
    ]  # fmt: skip
    assert (
        len({of(value) for value in values}) >= len(values) - 2
    )  # a set is hashed like the list of its items
    assert of(1, 2) != of(2, 1)
    assert of(1) != of(x=1)


def test_what_has_no_json_counts_by_its_type() -> None:
    class Client:
        pass

    assert of(Client()) == of(Client())
    assert of(Client()) != of(object())
    assert of(test_other_values_have_other_hashes) != of(of)


def test_a_value_that_holds_itself_has_a_hash() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert of(loop) == of(loop)


def test_a_model_whose_serialiser_fails_counts_by_its_type() -> None:
    class Broken(BaseModel):
        @property
        def path(self) -> str:
            raise RuntimeError

        def model_dump(self, **_: Any) -> dict[str, Any]:
            raise RuntimeError

        model_dump_json = model_dump  # type: ignore[assignment]

    assert of(Broken()) == of(Broken())


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(_values)
def test_any_value_has_a_hash_that_repeats(value: Any) -> None:
    assert of(value) == of(value)
    assert len(of(value)) == 32

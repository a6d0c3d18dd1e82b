"""A hash of what an operation was given, the same in every process. Pure.

A hash that differs from one process to the next parks a run for nothing: the order of a set of strings, the
address in an object's text. One that consumes a generator changes what is hashed.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_json

from roost.runs.records import digest

DEEPEST = 60
"""Levels that are looked at; what is deeper counts by its type."""


def input_digest(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """The hash of positional and keyword arguments.

    Equal values have equal hashes, sets and dicts in whatever order. What has no JSON (a client, an open file,
    a generator) counts by the name of its type: another object of the same type is the same input.
    """
    return digest(_json(_canonical({"args": args, "kwargs": kwargs}, 0)))


def _canonical(value: Any, depth: int) -> Any:
    """A value as what JSON has, with an order for what has none."""
    if type(value) is str:
        return value if value.isprintable() else value.encode("utf-8", "surrogatepass").hex()
    if value is None or type(value) in (int, float, bool):
        return value
    below = depth + 1
    if depth > DEEPEST:
        return _type_name(value)
    if isinstance(value, BaseModel):
        try:
            if _has_one_order(type(value)):
                return value.model_dump_json(round_trip=True, warnings=False)
            return _canonical(value.model_dump(round_trip=True, warnings=False), below)
        except Exception:  # serialisers may be the user's own code
            return _type_name(value)
    if isinstance(value, Iterator):
        return _type_name(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [(field.name, getattr(value, field.name, None)) for field in dataclasses.fields(value)]
        return [[name, _canonical(inner, below)] for name, inner in fields]
    if isinstance(value, Mapping):
        if all(type(key) is str for key in value):
            return [[_canonical(key, below), _canonical(value[key], below)] for key in sorted(value)]
        pairs = [[_canonical(key, below), _canonical(inner, below)] for key, inner in value.items()]
        return sorted(pairs, key=_json)
    if isinstance(value, AbstractSet):
        return sorted((_canonical(inner, below) for inner in value), key=_json)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | memoryview):
        return [_canonical(inner, below) for inner in value]
    if callable(value):
        return f"{_type_name(value)} {getattr(value, '__qualname__', '')}"
    try:
        return to_json(value, inf_nan_mode="strings", bytes_mode="hex").decode()
    except (PydanticSerializationError, ValueError, TypeError):
        return _type_name(value)


@functools.lru_cache(maxsize=512)
def _has_one_order(model: type[BaseModel]) -> bool:
    """Whether equal values of a model have equal JSON: nothing in it can be a set, a dict, or anything at all."""
    return not _finds(model.__pydantic_core_schema__, {"set", "frozenset", "dict", "any", "custom-error"})


def _finds(schema: object, kinds: set[str]) -> bool:
    if isinstance(schema, dict):
        if schema.get("type") in kinds or "serialization" in schema:
            return True
        return any(
            _finds(inner, kinds) for name, inner in schema.items() if name not in ("metadata", "default")
        )
    return isinstance(schema, list | tuple) and any(_finds(inner, kinds) for inner in schema)


def _json(value: Any) -> bytes:
    return to_json(value, inf_nan_mode="strings")


def _type_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"

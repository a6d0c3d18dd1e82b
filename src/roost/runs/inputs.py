"""A hash of what an operation was given, the same in every process. Pure."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_json

from roost.runs.records import digest


def input_digest(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """The hash of positional and keyword arguments.

    What has no JSON (a client, an open file) counts by the name of its type: another object of the same
    type is the same input.
    """
    given = {"args": args, "kwargs": dict(sorted(kwargs.items()))}
    return digest(to_json(given, fallback=_type_name, inf_nan_mode="strings"))


def _type_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"

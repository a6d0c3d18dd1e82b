"""JSON checked before a model sees it: depth, duplicate keys, infinities. Pure, and on the hot path.

Parsers disagree about what the standard leaves open (RFC 8259, sections 4 and 6), and the disagreement is what
an attacker uses: with `{"to": "ann", "to": "eve"}` one program checks `ann` and another pays `eve`. The parser
used here takes the last of equal keys, reads `1e999` as infinity, and gives up at a nesting of 200 by itself.

Equal keys are found without a second parser. Blanks left out, every key is followed by `":`, so a text has at
most as many members as it has of those; and it has at least as many as distinct keys were parsed. If both numbers
agree, no two keys are equal. Only if they do not (a string that looks like JSON) is the text read again, by a
slower parser that sees every key.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from itertools import chain
from typing import Any, TypeAlias

from pydantic_core import from_json

from roost._text import quoted

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

PARSER_DEPTH = 200
"""Deeper nesting is refused by the parser itself (jiter's recursion limit)."""

# Digits, and what else is alike here, as one character; what a parser skips between tokens, and `+`, left out.
_FOLD = bytes.maketrans(b"123456789E{", b"000000000e[")
_SKIPPED = b" \t\r\n+"
_LONG = b"0" * 200


class BadJson(ValueError):
    """Why a text is refused: `field` is a path such as `pages.0.url`, empty for the whole."""

    def __init__(self, reason: str, field: str = "") -> None:
        self.reason = reason
        self.field = field
        super().__init__(reason)


def parse(data: bytes, max_depth: int = PARSER_DEPTH) -> Json:
    """The value of a JSON text in UTF-8; BadJson if it is none, is nested deeper, or is ambiguous.

    An array or object counts one level. NaN, Infinity and numbers that no double can hold are refused.
    """
    try:
        value: Json = from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise _unreadable(data, str(error), max_depth) from None
    folded = data.translate(_FOLD, _SKIPPED)
    # A double overflows at 1e308: with an exponent of three digits, or with 200 digits before a shorter one.
    if folded.find(b"0e000") >= 0 or (len(data) > len(_LONG) and folded.find(_LONG) >= 0):
        _refuse_infinity(value)
    members = folded.count(b'":')
    if type(value) is dict and len(value) == members and folded.count(b"[") <= max_depth:
        return value
    keys = _count_keys(value, max_depth)
    if keys != members and keys != members - _escaped_at_least(folded):
        _refuse_equal_keys(data)
    return value


def _count_keys(value: Json, max_depth: int) -> int:
    """The number of distinct keys in all objects; BadJson if the nesting is deeper than `max_depth`."""
    keys = depth = 0
    level = _containers((value,))
    while level:
        depth += 1
        if depth > max_depth:
            raise BadJson(f"nested deeper than {max_depth} levels")
        below: list[Any] = []
        for one in level:  # plain loops: generators take five times as long for a small record
            if type(one) is dict:
                keys += len(one)
                one = one.values()
            for inner in one:
                if type(inner) is dict or type(inner) is list:
                    below.append(inner)
        level = below
    return keys


def _containers(values: Iterable[Any]) -> list[Any]:
    return [one for one in values if type(one) is dict or type(one) is list]


def _children(containers: list[Any]) -> Iterable[Any]:
    return chain.from_iterable(one.values() if type(one) is dict else one for one in containers)


def _escaped_at_least(folded: bytes) -> int:
    """How many `":` are inside strings for certain: those behind exactly one backslash."""
    return folded.count(b'\\":') - folded.count(b'\\\\":')


def _refuse_infinity(value: Json) -> None:
    values: list[Any] = [value]
    while values:
        if any(type(one) is float and math.isinf(one) for one in values):
            raise BadJson("a number is too large for a double")
        values = list(_children(_containers(values)))


def _refuse_equal_keys(data: bytes) -> None:
    def check(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise BadJson(f"key {quoted(key)} occurs twice in one object")
            seen.add(key)

    json.loads(data.decode(), object_pairs_hook=check)


def _unreadable(data: bytes, reason: str, max_depth: int) -> BadJson:
    if "recursion limit" in reason:
        return BadJson(f"nested deeper than {min(max_depth, PARSER_DEPTH)} levels")
    try:
        from_json(data, allow_inf_nan=True)
    except ValueError:
        return BadJson(f"not JSON: {reason}")
    return BadJson("NaN and Infinity are not JSON")


def difference(one: Json, other: Json, path: tuple[str, ...] = ()) -> tuple[str, ...] | None:
    """Where two values first differ, as a path; None if they are the same JSON value.

    The order of keys does not count; `1` and `1.0` are one number, `1` and `true` are not (RFC 8259 section 3).
    """
    if type(one) is dict and type(other) is dict:
        for key in one.keys() | other.keys():
            if key not in one or key not in other:
                return (*path, key)
            found = difference(one[key], other[key], (*path, key))
            if found is not None:
                return found
        return None
    if type(one) is list and type(other) is list:
        for index, (left, right) in enumerate(zip(one, other, strict=False)):
            found = difference(left, right, (*path, str(index)))
            if found is not None:
                return found
        return None if len(one) == len(other) else (*path, str(min(len(one), len(other))))
    same = one == other and (type(one) is bool) == (type(other) is bool)
    return None if same else path


def same_but_for_order(one: Json, other: Json) -> bool:
    """Whether two values are the same if the order of array items does not count, as for sets."""
    return difference(_ordered(one), _ordered(other)) is None


def _ordered(value: Json) -> Json:
    if type(value) is dict:
        return {key: _ordered(inner) for key, inner in value.items()}
    if type(value) is list:
        return sorted(map(_ordered, value), key=lambda inner: json.dumps(inner, sort_keys=True))
    return value


def canonical_equal(one: bytes, other: bytes) -> bool:
    """Whether two payloads are the same JSON value (or the same bytes, if one of them is no proper JSON)."""
    if one == other:
        return True
    try:
        return difference(parse(one), parse(other)) is None
    except BadJson:
        return False

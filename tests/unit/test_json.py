"""JSON before the model: what is refused, compared with a slow reader that sees every key."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from roost._json import BadJson, Json, canonical_equal, difference, parse, same_but_for_order

# Keys and strings made of what the fast check counts: quotes, colons, backslashes, blanks, brackets, digits.
tricky = st.text(alphabet='":\\ {[e0a\n', max_size=5)
numbers = st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | tricky


class Pairs(list[tuple[str, Any]]):
    """An object that may hold a key more than once."""


documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.lists(st.tuples(tricky, inner), max_size=4).map(Pairs),
    max_leaves=12,
)


def written(value: Any, draw: Any) -> str:
    """`value` as JSON, with blanks where JSON allows them and characters escaped at random."""

    def blanks() -> str:
        return str(draw(st.sampled_from(["", "", " ", "\t", "\r\n"])))

    def text(one: str) -> str:
        return (
            '"'
            + "".join(
                f"\\u{ord(c):04x}" if draw(st.integers(0, 4)) == 0 else json.dumps(c)[1:-1] for c in one
            )
            + '"'
        )

    if isinstance(value, Pairs):
        members = [blanks() + text(key) + blanks() + ":" + written(inner, draw) for key, inner in value]
        return blanks() + "{" + (",".join(members) or blanks()) + "}" + blanks()
    if isinstance(value, list):
        return blanks() + "[" + ",".join(written(inner, draw) for inner in value) + "]" + blanks()
    return blanks() + (text(value) if isinstance(value, str) else json.dumps(value)) + blanks()


def equal_keys(value: Any) -> bool:
    if isinstance(value, Pairs):
        keys = [key for key, _ in value]
        return len(set(keys)) < len(keys) or any(equal_keys(inner) for _, inner in value)
    return isinstance(value, list) and any(map(equal_keys, value))


def plain(value: Any) -> Any:
    if isinstance(value, Pairs):
        return {key: plain(inner) for key, inner in value}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


@settings(max_examples=600)
@given(documents, st.data())
def test_equal_keys_are_found_wherever_and_however_they_are_written(value: Any, data: st.DataObject) -> None:
    text = written(value, data.draw).encode()
    if equal_keys(value):
        with pytest.raises(BadJson, match="occurs twice"):
            parse(text)
    else:
        assert parse(text) == plain(value)


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":2}',
        '{"a":1,"\\u0061":2}',
        '{"a":1, "a" : 2}',
        '{"a":1,"a"\n:2}',
        '{"x":{"a":1,"a":2}}',
        '[{"a":1},{"b":1,"b":1}]',
        '{"":1,"":2}',
        '{"\\"":1,"\\u0022":2}',
        '{"a\\\\":1,"a\\\\":2}',
        '{"a":":","a":"\\":"}',
        '{"a":1,"a":"{\\"a\\":1}"}',
    ],
)
def test_a_key_that_occurs_twice_is_refused(text: str) -> None:
    with pytest.raises(BadJson, match="occurs twice in one object"):
        parse(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        '{"a":{"a":{"a":1}}}',
        '[{"a":1},{"a":1}]',
        '{"a":"\\":"}',
        '{"a":":","b":": :","c":"\\\\\\":"}',
        '{"a":"{\\"a\\": 1, \\"a\\": 2}"}',
        '{"url":"http://x:80","at":"12:30:00"}',
        '{"\\\\":1,"\\"":2}',
    ],
)
def test_what_only_looks_like_a_repeated_key_is_accepted(text: str) -> None:
    assert parse(text.encode()) == json.loads(text)


# --- depth ------------------------------------------------------------------------------------------


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


@given(documents.filter(lambda value: not equal_keys(value)), st.integers(1, 5))
def test_depth_is_counted_exactly(value: Any, limit: int) -> None:
    text = json.dumps(plain(value)).encode()
    if depth_of(plain(value)) > limit:
        with pytest.raises(BadJson, match=f"nested deeper than {limit} levels"):
            parse(text, limit)
    else:
        parse(text, limit)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
@pytest.mark.parametrize("levels", [33, 200, 201, 100_000])
def test_deep_nesting_is_refused_and_never_a_recursion_error(opening: str, levels: int) -> None:
    closing = "]" if opening == "[" else "}"
    for text in (opening * levels + "1" + closing * levels, opening * levels):
        with pytest.raises(BadJson):
            parse(text.encode(), 32)


def test_brackets_inside_strings_are_no_depth() -> None:
    assert parse(json.dumps({"a": "[" * 100 + "{" * 100}).encode(), 1) == {"a": "[" * 100 + "{" * 100}


def test_brackets_inside_strings_cannot_hide_depth() -> None:
    text = '["]",' * 40 + '"["' + ',"["]' * 40
    with pytest.raises(BadJson, match="nested deeper than 32 levels"):
        parse(text.encode(), 32)


# --- numbers, encoding, grammar ---------------------------------------------------------------------


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("around", ["{}", "[{}]", '{{"a":{}}}', '{{"a":[1,{}]}}'])
def test_nan_and_infinity_are_refused_and_named(literal: str, around: str) -> None:
    with pytest.raises(BadJson, match="NaN and Infinity"):
        parse(around.format(literal).encode())


@pytest.mark.parametrize(
    "number",
    ["1e309", "-1e309", "1E+309", "1.5e0309", "9e999", "1" + "0" * 309 + ".0", "1" + "0" * 300 + "e9"],
)
@pytest.mark.parametrize("around", ["{}", "[{}]", '{{"a":{}}}', '{{"a":[1,{{"b":{}}}]}}'])
def test_a_number_that_no_double_can_hold_is_refused(number: str, around: str) -> None:
    with pytest.raises(BadJson, match="too large for a double"):
        parse(around.format(number).encode())


@given(st.from_regex(r"-?[1-9][0-9]{0,320}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?", fullmatch=True))
@example("1" + "0" * 250 + "e58")
@example("1" + "0" * 250 + "e57")
def test_a_number_is_refused_exactly_if_it_reads_as_infinity(number: str) -> None:
    if math.isinf(json.loads(number)):
        with pytest.raises(BadJson):
            parse(f'{{"a":[{number}]}}'.encode())
    else:
        assert parse(f'{{"a":[{number}]}}'.encode()) == {"a": [json.loads(number)]}


def test_a_text_that_looks_like_a_huge_number_is_accepted() -> None:
    assert parse(b'{"commit":"0e999","e":"1E+999"}') == {"commit": "0e999", "e": "1E+999"}


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b" ", b"{", b"[1,]", b"{'a':1}", b"01", b"1.", b"nan", b"1 2", b'{"a":1}x', b"\xef\xbb\xbf1"),
        *(
            b'"\xff"',
            b'"\xed\xa0\x80"',
            b'"\\ud800"',
            b'"\xc0\x80"',
            b'"\n"',
            b'"\x00"',
            "{}".encode("utf-16"),
        ),
    ],
)
def test_what_is_no_json_in_utf8_is_refused(data: bytes) -> None:
    with pytest.raises(BadJson, match="not JSON"):
        parse(data)


@given(st.binary(max_size=40))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    with contextlib.suppress(BadJson):
        parse(data)


# --- the same value ---------------------------------------------------------------------------------


@given(documents, documents)
def test_values_are_the_same_exactly_if_a_strict_comparison_says_so(one: Any, other: Any) -> None:
    def strictly(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: strictly(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [strictly(inner) for inner in value]
        return (type(value) is bool, value)

    left, right = plain(one), plain(other)
    assert (difference(left, right) is None) == (strictly(left) == strictly(right))
    assert difference(left, left) is None


@pytest.mark.parametrize(
    ("one", "other", "path"),
    [
        ({"a": 1}, {"a": 1.0}, None),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, None),
        ({"a": 1}, {"a": True}, ("a",)),
        ({"a": [1, {"b": None}]}, {"a": [1, {"b": 0}]}, ("a", "1", "b")),
        ({"a": 1}, {}, ("a",)),
        ([1], [1, 2], ("1",)),
        (None, 0, ()),
        ("1", 1, ()),
    ],
)
def test_a_difference_is_found_where_it_is(one: Json, other: Json, path: tuple[str, ...] | None) -> None:
    assert difference(one, other) == path


def test_the_order_of_items_may_be_left_out_of_account() -> None:
    assert same_but_for_order({"a": ["x", "y", {"b": [1, 2]}]}, {"a": [{"b": [2, 1]}, "y", "x"]})
    assert not same_but_for_order(["x", "y"], ["x", "x"])
    assert not same_but_for_order([1, "2"], [1, 2])


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (b'{"a":1,"b":2}', b'{ "b": 2, "a": 1 }', True),
        (b'"\\u0061"', b'"a"', True),
        (b"1", b"1.0", True),
        (b"1", b"true", False),
        (b'{"a":1}', b'{"a":1,"b":null}', False),
        (b'{"a":1,"a":2}', b'{"a":2}', False),
        (b"not json", b"not json", True),
        (b"not json", b"not json ", False),
        (b"9007199254740993", b"9007199254740992.0", False),
    ],
)
def test_payloads_are_compared_as_values(one: bytes, other: bytes, same: bool) -> None:
    assert canonical_equal(one, other) is same
    assert canonical_equal(other, one) is same

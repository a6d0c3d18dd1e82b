"""The codec: what is sent is what is read; what does not fit is refused on both sides, with its field."""

from __future__ import annotations

import contextlib
import math
import pickle
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    computed_field,
    field_serializer,
    field_validator,
    model_validator,
)
from typing_extensions import TypedDict

from roost.codec import Codec, Limits
from roost.errors import ConfigError, InvalidMessage, TooLarge

SUBJECT = "team.w1.status"


class Page(BaseModel):
    path: str = Field(min_length=1)
    words: int = Field(ge=0)
    score: float = 0.5
    tags: list[str] = []


class Book(BaseModel):
    title: str
    pages: list[Page] = []
    note: str | None = None


class Looks(BaseModel):
    """The same fields as a page, and no page."""

    path: str
    words: int


page = Codec(Page)
book = Codec(Book)


def refused(call: Any, *args: Any) -> InvalidMessage:
    with pytest.raises(InvalidMessage) as caught:
        call(*args, subject=SUBJECT)
    assert caught.value.subject == SUBJECT
    return caught.value


# --- what fits --------------------------------------------------------------------------------------

pages = st.builds(
    Page,
    path=st.text(min_size=1, max_size=20),
    words=st.integers(0, 2**70),
    score=st.floats(allow_nan=False, allow_infinity=False),
    tags=st.lists(st.text(max_size=10), max_size=3),
)


@given(st.builds(Book, title=st.text(), pages=st.lists(pages, max_size=4), note=st.none() | st.text()))
def test_what_is_sent_is_what_is_read(value: Book) -> None:
    assert book.decode(book.encode(value, subject=SUBJECT), subject=SUBJECT) == value


class Colour(Enum):
    RED = "red"


class Point(TypedDict):
    x: int


@dataclass
class Pair:
    left: int
    right: str


@pytest.mark.parametrize(
    ("model", "value", "data"),
    [
        (type(None), None, b"null"),
        (int, 7, b"7"),
        (float, 7.0, b"7.0"),
        (float, 7, b"7.0"),
        (str, "ä", b'"\xc3\xa4"'),
        (list[int], [1, 2], b"[1,2]"),
        (
            dict[str, Page],
            {"a": Page(path="p", words=1)},
            b'{"a":{"path":"p","words":1,"score":0.5,"tags":[]}}',
        ),
        (Pair, Pair(1, "r"), b'{"left":1,"right":"r"}'),
        (Point, {"x": 1}, b'{"x":1}'),
        (Colour, Colour.RED, b'"red"'),
        (int | None, None, b"null"),
        (Annotated[int, Field(ge=0)], 0, b"0"),
        (Decimal, Decimal("1.10"), b'"1.10"'),
        (datetime, datetime(2026, 1, 2, tzinfo=UTC), b'"2026-01-02T00:00:00Z"'),
    ],
)
def test_any_type_that_pydantic_knows_can_be_sent(model: Any, value: Any, data: bytes) -> None:
    codec: Codec[Any] = Codec(model)
    sent = codec.encode(value, subject=SUBJECT)
    assert sent == data
    assert codec.decode(sent, subject=SUBJECT) == value


def test_unknown_fields_are_ignored_unless_the_model_forbids_them() -> None:
    class Strict(BaseModel):
        model_config = ConfigDict(extra="forbid")
        a: int

    assert page.decode(b'{"path":"p","words":1,"new":{"a":[1]}}', subject=SUBJECT) == Page(path="p", words=1)
    assert refused(Codec(Strict).decode, b'{"a":1,"b":2}').field == "b"


def test_a_subclass_is_sent_as_what_the_contract_declares() -> None:
    class Rich(Page):
        secret: str = "s"

    assert b"secret" not in page.encode(Rich(path="p", words=1), subject=SUBJECT)


def test_aliases_stand_on_the_wire_in_both_directions() -> None:
    class User(BaseModel):
        user_id: int = Field(alias="userId")

    codec = Codec(User)
    data = codec.encode(User(userId=7), subject=SUBJECT)
    assert data == b'{"userId":7}'
    assert codec.decode(data, subject=SUBJECT).user_id == 7
    assert "userId" in codec.json_schema()["properties"]


def test_computed_fields_stay_at_home_so_that_a_strict_receiver_can_read() -> None:
    class Area(BaseModel):
        model_config = ConfigDict(extra="forbid")
        side: int

        @computed_field  # type: ignore[prop-decorator]
        @property
        def area(self) -> int:
            return self.side**2

    codec = Codec(Area)
    assert codec.encode(Area(side=3), subject=SUBJECT) == b'{"side":3}'


def test_a_set_may_come_out_in_any_order() -> None:
    class Bag(BaseModel):
        words: set[str]
        _seen: int = PrivateAttr(default=0)

    codec = Codec(Bag)
    for size in range(40):
        bag = Bag(words={f"w{number}" for number in range(size)})
        bag.words.discard("w3")
        assert codec.decode(codec.encode(bag, subject=SUBJECT), subject=SUBJECT) == bag


class Tree(BaseModel):
    children: list[Leaf] = []


class Leaf(BaseModel):
    name: str


def test_a_model_that_names_a_later_one_is_completed_at_first_use() -> None:
    codec = Codec(Tree)
    assert codec.decode(b'{"children":[{"name":"a"}]}', subject=SUBJECT).children == [Leaf(name="a")]


def test_a_model_built_late_is_built_at_first_use() -> None:
    class Late(BaseModel):
        model_config = ConfigDict(defer_build=True)
        a: int

    assert Codec(Late).encode(Late(a=1), subject=SUBJECT) == b'{"a":1}'


def test_a_codec_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(page)).decode(b'{"path":"p","words":1}', subject=SUBJECT).path == "p"


# --- what does not fit, coming in -------------------------------------------------------------------


def test_a_misfit_is_refused_with_the_path_of_its_field() -> None:
    error = refused(
        book.decode, b'{"title":"t","pages":[{"path":"p","words":1},{"path":"p","words":"many"}]}'
    )
    assert error.field == "pages.1.words"
    assert "valid integer" in error.reason


def test_the_first_of_several_misfits_is_named_and_the_others_are_counted() -> None:
    error = refused(page.decode, b"{}")
    assert error.field == "path"
    assert "and 1 more" in error.reason


def test_a_payload_of_a_hundred_thousand_misfits_is_only_counted() -> None:
    error = refused(Codec(list[int]).decode, b"[" + b'"x",' * 60_000 + b"0]")
    assert error.reason == "60000 fields do not fit"


def test_the_refusal_does_not_repeat_the_payload() -> None:
    assert "hunter2" not in str(refused(page.decode, b'{"path":"p","words":"hunter2"}'))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not JSON"),
        (b'{"path":"p","words":1} x', "not JSON"),
        (b'{"path":"\xff","words":1}', "not JSON"),
        (b'{"path":"p","words":1,"words":2}', "key 'words' occurs twice"),
        (b'{"path":"p","words":1,"score":NaN}', "NaN and Infinity are not JSON"),
        (b'{"path":"p","words":1,"score":1e999}', "too large for a double"),
        (b'{"path":"p","words":1,"new":' + b"[" * 32 + b"]" * 32 + b"}", "nested deeper than 32 levels"),
    ],
)
def test_ambiguous_or_broken_json_is_refused(data: bytes, reason: str) -> None:
    error = refused(page.decode, data)
    assert error.field == ""
    assert reason in error.reason


def test_the_deepest_allowed_nesting_is_accepted() -> None:
    page.decode(b'{"path":"p","words":1,"new":' + b"[" * 31 + b"]" * 31 + b"}", subject=SUBJECT)


def test_a_payload_is_too_large_by_one_byte() -> None:
    codec = Codec(str, limits=Limits(max_bytes=10))
    assert codec.decode(b'"12345678"', subject=SUBJECT) == "12345678"
    assert codec.encode("12345678", subject=SUBJECT) == b'"12345678"'
    for call in (
        lambda: codec.decode(b'"123456789"', subject=SUBJECT),
        lambda: codec.encode("123456789", subject=SUBJECT),
    ):
        with pytest.raises(TooLarge) as caught:
            call()
        assert (caught.value.size, caught.value.limit, caught.value.subject) == (11, 10, SUBJECT)


def test_the_default_limits_are_256_kib_and_32_levels() -> None:
    assert Limits() == Limits(max_bytes=262_144, max_depth=32)


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_but_invalid_message(data: bytes) -> None:
    with contextlib.suppress(InvalidMessage):
        book.decode(data, subject=SUBJECT)


@pytest.mark.parametrize("raised", [TypeError, KeyError, RecursionError, ValueError, AssertionError])
def test_whatever_a_validator_raises_harms_only_its_message(raised: type[Exception]) -> None:
    class Touchy(BaseModel):
        a: int

        @field_validator("a")
        @classmethod
        def check(cls, value: int) -> int:
            if value < 0:
                raise raised("no")
            return value

    codec = Codec(Touchy)
    assert codec.decode(b'{"a":1}', subject=SUBJECT).a == 1
    refused(codec.decode, b'{"a":-1}')


# --- what does not fit, going out -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"words": "many"}, "words"),
        ({"words": "12"}, "words"),
        ({"words": -1}, "words"),
        ({"words": None}, "words"),
        ({"path": ""}, "path"),
        ({"path": 7}, "path"),
        ({"tags": [1]}, "tags.0"),
        ({"tags": "ab"}, "tags"),
        ({"score": "0.5"}, "score"),
    ],
)
def test_a_field_changed_after_validation_is_refused(changes: dict[str, Any], field: str) -> None:
    changed = Page(path="p", words=1).model_copy(update=changes)
    assert refused(page.encode, changed).field == field
    nested = Book.model_construct(title="t", pages=[Page(path="p", words=1), changed])
    assert refused(book.encode, nested).field == f"pages.1.{field}"


def test_a_wrong_type_is_harmless_where_the_payload_is_the_right_one() -> None:
    changed = Page(path="p", words=1).model_copy(update={"words": True, "score": 1})
    assert page.encode(changed, subject=SUBJECT) == page.encode(
        Page(path="p", words=1, score=1), subject=SUBJECT
    )


def test_a_number_where_the_model_has_a_flag_is_refused() -> None:
    class Flag(BaseModel):
        done: bool

    assert refused(Codec(Flag).encode, Flag.model_construct(done=1)).field == "done"


def test_a_set_in_another_order_does_not_excuse_a_wrong_field_beside_it() -> None:
    class Mixed(BaseModel):
        words: set[str]
        numbers: list[int]

    words = {f"w{number}" for number in range(20)}
    codec = Codec(Mixed)
    codec.encode(Mixed.model_construct(words=words, numbers=[1, 2]), subject=SUBJECT)
    assert refused(codec.encode, Mixed.model_construct(words=words, numbers=[1, "2"]))


def test_a_model_made_without_validation_is_refused() -> None:
    assert refused(page.encode, Page.model_construct(words=1)).field == "path"


def test_another_class_with_the_same_fields_is_refused() -> None:
    error = refused(page.encode, Looks(path="p", words=1))
    assert error.reason == "expected Page, got Looks"
    assert refused(page.encode, {"path": "p", "words": 1}).reason == "expected Page, got dict"
    assert refused(page.encode, None).reason == "expected Page, got NoneType"
    assert refused(Codec(Pair).encode, Looks(path="p", words=1)).reason == "expected Pair, got Looks"


def test_a_wrong_model_inside_another_cannot_turn_into_an_empty_one() -> None:
    class Settings(BaseModel):
        colour: str = "red"

    class Owner(BaseModel):
        settings: Settings

    owner = Owner.model_construct(settings=Looks(path="p", words=1))
    assert refused(Codec(Owner).encode, owner).field.startswith("settings")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_refused_wherever_they_hide(number: float) -> None:
    class Numbers(BaseModel):
        plain: float = 0.0
        optional: float | None = None
        anything: Any = None
        several: list[float | None] = []

    codec = Codec(Numbers)
    assert codec.encode(Numbers(), subject=SUBJECT)
    assert codec.encode(Numbers(several=[None, 1.0]), subject=SUBJECT)
    for values in (
        {"plain": number},
        {"optional": number},
        {"anything": number},
        {"anything": {"x": [number]}},
        {"several": [1.0, number]},
    ):
        error = refused(codec.encode, Numbers.model_validate(values))
        assert "NaN and Infinity are not JSON" in error.reason


def test_a_model_configured_to_write_nan_is_refused_too() -> None:
    class Inner(BaseModel):
        model_config = ConfigDict(ser_json_inf_nan="constants")
        x: float

    class Outer(BaseModel):
        inner: Inner

    assert Codec(Outer).encode(Outer(inner=Inner(x=1)), subject=SUBJECT) == b'{"inner":{"x":1.0}}'
    assert "NaN" in refused(Codec(Outer).encode, Outer(inner=Inner(x=math.nan))).reason


def test_keys_that_become_equal_in_json_are_refused() -> None:
    codec: Codec[dict[int | str, str]] = Codec(dict[int | str, str])
    assert "key '1' occurs twice" in refused(codec.encode, {1: "a", "1": "a"}).reason
    anything: Codec[Any] = Codec(Any)
    assert "key '1' occurs twice" in refused(anything.encode, {1: "a", "1": "b"}).reason


def test_a_value_deeper_than_the_receiver_takes_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(31):
        deep = [deep]
    codec: Codec[Any] = Codec(Any)
    assert codec.encode(deep, subject=SUBJECT)
    assert "nested deeper" in refused(codec.encode, [deep]).reason


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    codec: Codec[Any] = Codec(Any)
    assert "cannot be written as JSON" in refused(codec.encode, loop).reason


def test_what_is_no_json_at_all_is_refused() -> None:
    codec: Codec[Any] = Codec(Any)
    assert "cannot be written as JSON" in refused(codec.encode, object()).reason
    assert "cannot be written as JSON" in refused(codec.encode, "\ud800").reason


def test_a_serializer_that_the_validator_does_not_undo_is_refused() -> None:
    class Lossy(BaseModel):
        a: int

        @field_serializer("a")
        def as_text(self, value: int) -> str:
            return f"no. {value}"

    assert refused(Codec(Lossy).encode, Lossy(a=1)).field == "a"


def test_a_validator_that_changes_what_it_validated_before_is_refused() -> None:
    class Growing(BaseModel):
        name: str

        @field_validator("name")
        @classmethod
        def grow(cls, value: str) -> str:
            return value + "!"

    assert refused(Codec(Growing).encode, Growing(name="a")).field == "name"


def test_a_validator_that_is_content_with_its_own_result_is_fine() -> None:
    class Tidy(BaseModel):
        model_config = ConfigDict(str_strip_whitespace=True)
        name: str

        @model_validator(mode="after")
        def lower(self) -> Tidy:
            self.name = self.name.lower()
            return self

    assert Codec(Tidy).encode(Tidy(name=" Ann "), subject=SUBJECT) == b'{"name":"ann"}'


# --- building ---------------------------------------------------------------------------------------


class Unknown:
    pass


@pytest.mark.parametrize("model", [Unknown, list[Unknown], list["Nowhere"]])  # type: ignore[name-defined]  # noqa: F821
def test_a_type_that_pydantic_cannot_handle_is_a_config_error(model: Any) -> None:
    with pytest.raises(ConfigError, match="cannot be the type of a message"):
        Codec(model)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"max_bytes": 0}, "max_bytes = 0"),
        ({"max_bytes": 1.5}, "max_bytes = 1.5"),
        ({"max_depth": True}, "max_depth = True"),
        ({"max_depth": 201}, "max_depth = 201"),
    ],
)
def test_a_wrong_limit_is_named_with_its_value(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Limits(**options)


def test_the_schema_describes_what_is_accepted() -> None:
    schema = page.json_schema()
    assert schema["required"] == ["path", "words"]
    assert schema["properties"]["words"] == {"minimum": 0, "title": "Words", "type": "integer"}

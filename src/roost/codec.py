"""Payload <-> model. What does not fit its model is refused on both sides, and reaches no handler. Pure.

Coming in, bytes are data from a stranger: size, UTF-8, depth, equal keys, NaN and infinities are checked before
the model validates them (fields that the model does not know are ignored unless it forbids them). Going out, a
value is data from a program that may have changed a field after validation: it is serialised, validated as the
receiver will validate it, and serialised again; only what comes out the same is sent. That costs less than
asking pydantic for strict serialisation (which misses constraints and some wrong nested models), and proves the
one thing that matters: the receiver reads what the sender meant.

Figures (Python 3.11, two slow cores): 121 bytes, six fields: decode 2.5 us, of which 1.0 is pydantic's own;
encode 2.9 us, unchecked 0.4. A list of 100 such, 12 KB: 205 us, of which 85; 290 us, unchecked 36.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError

from roost import _json
from roost._json import canonical_equal
from roost._text import quoted
from roost.errors import ConfigError, InvalidMessage, TooLarge

__all__ = ["Codec", "Limits", "canonical_equal"]

M = TypeVar("M")

_MANY_ERRORS = 100  # a list of them all for a hostile 256 KiB payload would block the event loop for 0.1 s


MOST_BYTES = 64 * 1024 * 1024
"""Size of a payload above which no contract takes it: who encodes it has it in memory up to five times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a payload may measure. ConfigError if a limit is out of range."""

    max_bytes: int = 256 * 1024
    """Size in bytes. Of tasks and workflows what is above 256 KiB is kept as an object, up to 64 MiB
    (`docs/large-payloads.md`); elsewhere the server's `max_payload` bounds it too."""
    max_depth: int = 32
    """Levels of arrays and objects inside each other; at most 200, which is what the parser takes."""

    def __post_init__(self) -> None:
        for name, value, top in (("max_bytes", self.max_bytes, 2**31), ("max_depth", self.max_depth, 200)):
            if type(value) is not int or not 1 <= value <= top:
                raise ConfigError(f"Limits: {name} = {quoted(value)}: must be an int from 1 to {top}.")


class Codec(Generic[M]):
    """Encodes and decodes values of one type: a pydantic model, or anything pydantic can validate.

    Building one costs up to a millisecond, except for pydantic models, which carry their validator with them.
    ConfigError if pydantic cannot handle the type.
    """

    __slots__ = ("_class", "_literals", "_serialise", "_validate", "adapter", "limits", "model")

    model: type[M]
    limits: Limits
    adapter: TypeAdapter[M]

    def __init__(self, model: type[M], *, limits: Limits = Limits()) -> None:
        self.model = model
        self.limits = limits
        self.adapter = _adapter(model)
        self._validate: Callable[[bytes], M] = self.adapter.validator.validate_json
        self._serialise: Callable[..., bytes] = self.adapter.serializer.to_json
        # JSON does not tell two classes of the same fields apart, so the class is checked by itself.
        self._class: type | None = model if _has_fields(model) else None
        self._literals = _writes_nan(self.adapter.core_schema)

    def encode(self, value: M, *, subject: str) -> bytes:
        """The payload for `value`: JSON in UTF-8, by alias, without computed fields (`round_trip`).

        An instance of a subclass is sent as what the contract declares. Raises TooLarge, or InvalidMessage if the
        receiver would refuse it or read another value: a field of another type, a broken constraint, NaN, a
        validator that changes what it has validated before.
        """
        if self._class is not None and not isinstance(value, self._class):
            wanted, got = self._class.__name__, type(value).__name__
            raise InvalidMessage(subject=subject, field="", reason=f"expected {wanted}, got {got}")
        try:
            data = self._serialise(value, by_alias=True, round_trip=True, warnings=False)
        except Exception as error:  # serialisers may be the user's own code
            raise InvalidMessage(
                subject=subject, field="", reason=f"cannot be written as JSON: {error}"
            ) from error
        limits = self.limits
        if len(data) > limits.max_bytes:
            raise TooLarge(subject=subject, size=len(data), limit=limits.max_bytes)
        if self._literals or data.count(b"{") + data.count(b"[") > limits.max_depth:
            self._check(data, subject)
        copy = self._validated(data, subject, value)
        again = self._serialise(copy, by_alias=True, round_trip=True, warnings=False)
        # NaN is written as null, which an optional field takes.
        if again != data or (b"null" in data and not _equal(copy, value)):
            self._explain(value, data, copy, again, subject)
        return data

    def dump(self, value: M) -> bytes | None:
        """What `encode` would return, unchecked; None if it cannot be written.

        A fifth of the work, to compare a value with what was encoded before. Not to be sent.
        """
        try:
            return self._serialise(value, by_alias=True, round_trip=True, warnings=False)
        except Exception:  # as in `encode`, which tells why
            return None

    def decode(self, data: bytes, *, subject: str) -> M:
        """The value of a payload. Raises TooLarge, or InvalidMessage with field and reason.

        A validator of the user's that raises anything at all makes the message invalid, nothing else.
        """
        limits = self.limits
        if len(data) > limits.max_bytes:
            raise TooLarge(subject=subject, size=len(data), limit=limits.max_bytes)
        self._check(data, subject)
        return self._validated(data, subject)

    def json_schema(self) -> dict[str, Any]:
        """JSON Schema (draft 2020-12) of what `decode` takes, names by alias. ConfigError if there is none."""
        try:
            return self.adapter.json_schema(by_alias=True, mode="validation")
        except PydanticUserError as error:
            raise ConfigError(f"{quoted(self.model)} has no JSON Schema: {error.message}") from error

    def _check(self, data: bytes, subject: str) -> None:
        try:
            _json.parse(data, self.limits.max_depth)
        except _json.BadJson as error:
            raise InvalidMessage(subject=subject, field="", reason=error.reason) from error

    def _validated(self, data: bytes, subject: str, original: object = None) -> M:
        try:
            return self._validate(data)
        except ValidationError as error:
            if original is not None and self._has_nan(original):
                raise InvalidMessage(
                    subject=subject, field="", reason="NaN and Infinity are not JSON"
                ) from error
            raise _invalid(error, subject) from error
        except Exception as error:  # validators may be the user's own code
            reason = f"its validator raised {type(error).__name__}"
            raise InvalidMessage(subject=subject, field="", reason=reason) from error

    def _explain(self, value: M, data: bytes, copy: M, again: bytes, subject: str) -> None:
        """Refuses `value` if the receiver would read another one; a set in another order is the same."""
        for one in (data, again):
            self._check(one, subject)
        if self._has_nan(value):
            raise InvalidMessage(subject=subject, field="", reason="NaN and Infinity are not JSON")
        sent, read = _json.parse(data), _json.parse(again)
        path = _json.difference(sent, read)
        if path is None or (_json.same_but_for_order(sent, read) and _equal(copy, value)):
            return
        reason = (
            "the receiver would read another value than was sent; give it the type that the model declares"
        )
        raise InvalidMessage(subject=subject, field=".".join(path), reason=reason)

    def _has_nan(self, value: object) -> bool:
        dump = self.adapter.serializer.to_python
        return _non_finite(dump(value, by_alias=True, round_trip=True, warnings=False))

    def __reduce__(self) -> tuple[Callable[..., Codec[Any]], tuple[Any, ...]]:
        return _rebuild, (self.model, self.limits)


def _rebuild(model: type[M], limits: Limits) -> Codec[M]:
    return Codec(model, limits=limits)


def _adapter(model: type[M]) -> TypeAdapter[M]:
    try:
        adapter = TypeAdapter(model)
        adapter.rebuild(raise_errors=True)
        return adapter
    except (PydanticUserError, PydanticUndefinedAnnotation) as error:
        because = error.message.splitlines()[0].partition(". ")[0].rstrip(".")
        raise ConfigError(
            f"{quoted(model)} cannot be the type of a message: {because}. Use a pydantic model, a dataclass, a "
            "TypedDict, or a type made of str, int, float, bool, list and dict."
        ) from error


def _has_fields(model: object) -> bool:
    return isinstance(model, type) and (issubclass(model, BaseModel) or is_dataclass(model))


def _writes_nan(schema: object) -> bool:
    """Whether a model somewhere in the schema is configured to write NaN as the literal that JSON lacks."""
    if isinstance(schema, dict):
        if schema.get("ser_json_inf_nan") == "constants":
            return True
        return any(
            _writes_nan(inner) for name, inner in schema.items() if name not in ("metadata", "default")
        )
    return isinstance(schema, list | tuple) and any(map(_writes_nan, schema))


def _non_finite(value: object) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(_non_finite, value.values()))
    return isinstance(value, list | tuple | set | frozenset) and any(map(_non_finite, value))


def _equal(copy: object, value: object) -> bool:
    try:
        return bool(copy == value)
    except (TypeError, ValueError):  # a field whose comparison is no bool, such as an array
        return False


def _invalid(error: ValidationError, subject: str) -> InvalidMessage:
    count = error.error_count()
    if count > _MANY_ERRORS:
        return InvalidMessage(subject=subject, field="", reason=f"{count} fields do not fit")
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    reason = first["msg"] + (f" (and {count - 1} more)" if count > 1 else "")
    return InvalidMessage(subject=subject, field=".".join(map(str, first["loc"])), reason=reason)

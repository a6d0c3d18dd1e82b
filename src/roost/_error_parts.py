"""What errors are made of: exceptions that survive `pickle` and `copy`, and what they hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from roost._text import quoted


class Portable(Exception):
    """Pickling that works for constructors with keyword-only arguments (the default calls `cls(*args)`)."""

    def __reduce__(self) -> tuple[Callable[..., BaseException], tuple[Any, ...]]:
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(cls: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One field that the server has otherwise than the code asks for."""

    field: str
    found: object  # as the server reports it; None if absent
    wanted: object  # as the code asks for it

    def __str__(self) -> str:
        return f"{self.field} is {quoted(self.found, 200)}, wanted {quoted(self.wanted, 200)}"


class RoostError(Portable):
    """The root: `except RoostError` catches whatever Roost raises, and nothing that a handler says."""

    retryable: ClassVar[bool] = False
    """True if the same call, repeated later, does no harm and may succeed."""

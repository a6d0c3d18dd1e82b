"""A handler whose annotations cannot fit its contract is refused where it is registered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import pytest
from pydantic import BaseModel

from roost import Agent, ConfigError, Context, Run, Task, Topic, Workflow


class In(BaseModel):
    n: int


class Out(BaseModel):
    n: int


class Special(Out):
    extra: int = 0


class HasN(Protocol):
    n: int


task = Task("t", In, Out)
silent = Task("silent", In)
plan = Workflow("plan", In, Out)
news = Topic("news", In)


async def right(value: In, ctx: Context) -> Out: ...  # type: ignore[empty-body]
async def right_with_deps(value: In, ctx: Context[int]) -> Out: ...  # type: ignore[empty-body]
async def base(value: BaseModel) -> Special: ...  # type: ignore[empty-body]
async def union(value: In | str) -> Out | None: ...
async def protocol(value: HasN) -> Out: ...  # type: ignore[empty-body]
async def unresolved(value: Nowhere) -> Out: ...  # type: ignore[name-defined,empty-body]  # noqa: F821
async def bare(value, ctx): ...  # type: ignore[no-untyped-def]
def plain(value: In) -> Out: ...  # type: ignore[empty-body]
async def coordinate(value: In, run: Run) -> Out: ...  # type: ignore[empty-body]
async def nothing(value: In) -> None: ...
async def other(value: Out) -> Out: ...  # type: ignore[empty-body]
async def echo(value: In) -> In: ...  # type: ignore[empty-body]
async def swapped(ctx: Context, value: In) -> Out: ...  # type: ignore[empty-body]


@pytest.mark.parametrize(
    "function",
    [right, right_with_deps, base, union, protocol, unresolved, bare, plain],
    ids=lambda one: one.__name__,
)
def test_what_may_fit_is_taken(function: Callable[..., Any]) -> None:
    Agent("a").handles(task)(function)


@pytest.mark.parametrize(
    ("contract", "function", "reason"),
    [
        (task, other, "takes Out first, but Task 't' brings In"),
        (task, echo, "returns In, but the output of Task 't' is Out"),
        (task, nothing, "returns nothing, but the output of Task 't' is Out"),
        (task, swapped, "takes Context first"),
        (task, coordinate, "wants a Run, but Task 't' is handled with a Context"),
        (plan, right, "wants a Context, but Workflow 'plan' is handled with a Run"),
        (silent, right, "returns Out, but the output of Task 'silent' is nothing"),
        (news, other, "takes Out first"),
    ],
)
def test_what_cannot_fit_is_refused_with_its_reason(contract: Any, function: Any, reason: str) -> None:
    register: Any = Agent("a").handles(contract)
    with pytest.raises(ConfigError, match=reason):
        register(function)

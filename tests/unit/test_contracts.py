"""Contracts: values that are checked when they are made, and built when they are used."""

from __future__ import annotations

import ast
import math
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import roost
from roost.codec import Limits
from roost.contracts import (
    Address,
    Contract,
    Endpoint,
    Retry,
    Signal,
    StreamEndpoint,
    Task,
    Topic,
    Workflow,
)
from roost.errors import ConfigError, RoostError, TooLarge, UnsafeToken


class Page(BaseModel):
    path: str


class Digest(BaseModel):
    words: int


MAKERS: dict[str, Callable[[], Contract]] = {
    "topic": lambda: Topic("team.{agent}.status", Page),
    "endpoint": lambda: Endpoint("hello", Page, Digest),
    "stream_endpoint": lambda: StreamEndpoint("chat", Page, Digest),
    "task": lambda: Task("digest", Page, Digest, retry=Retry(attempts=3)),
    "workflow": lambda: Workflow("audit", Page, Digest, deadline_s=60),
    "signal": lambda: Signal("approval", Page),
}
each_kind = pytest.mark.parametrize("kind", MAKERS)


@each_kind
def test_a_contract_is_a_value(kind: str) -> None:
    one, other = MAKERS[kind](), MAKERS[kind]()
    assert one == other
    assert len({one, other}) == 1
    one.prepare()
    assert one == other
    assert pickle.loads(pickle.dumps(one)) == one
    assert one.kind == kind


@each_kind
def test_a_contract_cannot_be_changed(kind: str) -> None:
    contract = MAKERS[kind]()
    for name in ("name", "model", "anything"):
        with pytest.raises(FrozenInstanceError):
            setattr(contract, name, "other")


@each_kind
def test_a_contract_has_one_json_schema_with_all_its_roles(kind: str) -> None:
    schema = MAKERS[kind]().json_schema()
    roles = {
        "topic": ["model"],
        "endpoint": ["input", "output"],
        "stream_endpoint": ["input", "chunk"],
        "task": ["input", "output"],
        "workflow": ["input", "output"],
        "signal": ["model"],
    }[kind]
    assert list(schema) == ["kind", "name", *roles]
    assert schema["kind"] == kind
    assert all(schema[role]["type"] == "object" for role in roles)


def test_contracts_of_different_kind_or_policy_are_different() -> None:
    contracts: set[object] = {
        Endpoint("x", Page, Digest),
        Workflow("x", Page, Digest),
        Workflow("x", Page, Digest, deadline_s=1),
        Task("x", Page, Digest),
        Task("x", Page),
        Task("x", Page, Digest, retry=Retry(attempts=1)),
        Task("x", Page, Digest, limits=Limits(max_bytes=1)),
    }
    assert len(contracts) == 7


def test_types_may_be_written_out() -> None:
    assert Task[Page, Digest]("x", Page, Digest) == Task("x", Page, Digest)
    assert Endpoint[Page, Digest]("x", Page, Digest) == Endpoint("x", Page, Digest)
    assert Topic[Page]("a", Page) == Topic("a", Page)


def test_a_contract_encodes_with_its_models() -> None:
    digest = Task("digest", Page, Digest)
    data = digest.input_codec.encode(Page(path="p"), subject="s")
    assert digest.input_codec.decode(data, subject="s") == Page(path="p")
    assert digest.output_codec.decode(b'{"words":1}', subject="s") == Digest(words=1)
    assert digest.output_codec is digest.output_codec


def test_a_task_without_output_ends_with_none() -> None:
    task = Task("notify", Page)
    assert task.output is type(None)
    assert task.output_codec.encode(None, subject="s") == b"null"


def test_limits_belong_to_the_contract() -> None:
    topic = Topic("a", str, limits=Limits(max_bytes=4))
    topic.codec.encode("ab", subject="a")
    with pytest.raises(TooLarge):
        topic.codec.encode("abc", subject="a")


def test_a_topic_stands_on_the_wire_as_it_is_written() -> None:
    topic = Topic("team.{agent}.status", Page)
    assert topic.subject == topic.name == "team.{agent}.status"
    assert topic.at(agent="w1") == Address(topic, "team.w1.status")
    assert topic.pattern() == "team.*.status"
    assert topic.pattern(agent="w1") == "team.w1.status"
    with pytest.raises(ConfigError, match="agent is missing"):
        topic.at()
    with pytest.raises(UnsafeToken, match="agent = "):
        topic.at(agent="w1.*")


def test_the_defaults_of_a_task_are_the_documented_ones() -> None:
    task = Task("digest", Page)
    assert (task.attempt_timeout_s, task.deadline_s, task.ack_wait_s) == (300, None, 30)
    assert task.retry == Retry(attempts=5, base_s=0.2, cap_s=30, retry_on=(Exception,), never_on=())


anything: Any = object


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Task("a b", Page), "name = 'a b'"),
        (lambda: Task("", Page), "name = ''"),
        (lambda: Workflow("a.b", Page, Digest), "name = 'a.b'"),
        (lambda: Signal("x" * 65, Page), "name = "),
        (lambda: Endpoint("*", Page, Digest), "name = '*'"),
        (lambda: Topic("a.*", Page), "subject template 'a.*'"),
        (lambda: Topic("_INBOX.{a}", Page), "subject template '_INBOX.{a}'"),
        (lambda: Task("x", anything(), Digest), "Task 'x': input = "),
        (lambda: Endpoint("x", Page, "Digest"), "Endpoint 'x': output = 'Digest'"),  # type: ignore[arg-type]
        (lambda: StreamEndpoint("x", Page, None), "StreamEndpoint 'x': chunk = None"),  # type: ignore[arg-type]
        (lambda: Task("x", Page, retry=3), "Task 'x': retry = 3"),  # type: ignore[call-overload]
        (lambda: Task("x", Page, attempt_timeout_s=0), "Task 'x': attempt_timeout_s = 0"),
        (lambda: Task("x", Page, deadline_s=math.inf), "Task 'x': deadline_s = inf"),
        (lambda: Task("x", Page, deadline_s=-1), "Task 'x': deadline_s = -1"),
        (lambda: Task("x", Page, ack_wait_s=0.1), "Task 'x': ack_wait_s = 0.1"),
        (lambda: Task("x", Page, ack_wait_s=None), "Task 'x': ack_wait_s = None"),  # type: ignore[call-overload]
        (lambda: Workflow("x", Page, Digest, deadline_s=math.nan), "Workflow 'x': deadline_s = nan"),
        (
            lambda: Task("x", Page, limits=Limits(max_bytes=2**26 + 1)),
            "Task 'x': limits: max_bytes = 67108865",
        ),
        (lambda: Signal("x", Page, limits=9), "Signal 'x': limits = 9"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_field_is_named_with_its_value_and_what_is_allowed(
    make: Callable[[], object], named: str
) -> None:
    with pytest.raises(RoostError) as caught:
        make()
    assert isinstance(caught.value, ValueError)
    assert named in str(caught.value)
    assert (
        "must be" in str(caught.value) or "allowed are" in str(caught.value) or "literal" in str(caught.value)
    )


class Unknown:
    pass


def test_an_unusable_type_is_told_when_the_contract_is_prepared() -> None:
    task = Task("digest", Page, Unknown)
    with pytest.raises(ConfigError, match=r"Task 'digest': output: .*Unknown"):
        task.prepare()


def test_making_a_contract_builds_no_validator() -> None:
    task = Task("digest", Page, Digest)
    assert "input_codec" not in vars(task)
    task.prepare()
    assert {"input_codec", "output_codec"} <= vars(task).keys()


PURE = ["_contract", "_json", "_retry", "_text", "codec", "contracts", "errors", "subjects"]


@pytest.mark.parametrize("module", PURE)
def test_the_core_knows_neither_nats_nor_an_event_loop(module: str) -> None:
    tree = ast.parse(Path(roost.__file__ or "").with_name(f"{module}.py").read_text(encoding="utf-8"))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names]
        )
    }
    assert imported.isdisjoint({"nats", "asyncio", "random", "time"})

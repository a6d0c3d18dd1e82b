"""Comparing what is needed with what is granted, and what `roost permissions` prints. Without a server."""

from __future__ import annotations

import json
from typing import Any

import pytest
import team
from hypothesis import given
from hypothesis import strategies as st
from security_kit import block, users_of
from typer.testing import CliRunner

import roost
from roost.cli.app import app
from roost.errors import ConfigError
from roost.permissions import ANSWERS, Granted, Rights, covers, missing, overlap
from roost.subjects import matches

TARGET = "roost.demo.team"
words = st.sampled_from(["a", "b", "*"])
patterns = st.builds(
    lambda head, more: ".".join([*head, *([">"] if more else [])]),
    st.lists(words, min_size=1, max_size=3),
    st.booleans(),
)
subjects = st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=5).map(".".join)


@given(patterns, patterns, subjects)
def test_a_pattern_that_covers_another_matches_all_that_it_matches(
    one: str, other: str, subject: str
) -> None:
    if covers(one, other) and matches(other, subject):
        assert matches(one, subject)
    if matches(one, subject) and matches(other, subject):
        assert overlap(one, other)
        assert overlap(other, one)


@pytest.mark.parametrize(
    ("pattern", "wanted", "covered", "overlapping"),
    [
        ("a.>", "a.b", True, True),
        ("a.>", "a", False, False),
        ("a.*", "a.b", True, True),
        ("a.b", "a.*", False, True),
        ("a.*", "a.>", False, True),
        (">", "a.>", True, True),
        ("a.*.c", "a.b.c", True, True),
        ("a.b", "a.c", False, False),
        ("a.*", "a.b.c", False, False),
        ("_INBOX_ann.>", "_INBOX_anna.>", False, False),
    ],
)
def test_patterns(pattern: str, wanted: str, covered: bool, overlapping: bool) -> None:
    assert covers(pattern, wanted) is covered
    assert overlap(pattern, wanted) is overlapping


NEEDED = Rights(publish={"a.x": "", "b.y": ""}, subscribe={"c.*": ""}, answers=1)


@pytest.mark.parametrize(
    ("told", "lacking"),
    [
        (None, []),
        ({}, [ANSWERS][:0]),
        ({"publish": {"allow": ["a.>", "b.y"]}, "subscribe": {"allow": ["c.>"]}}, [ANSWERS]),
        ({"publish": {"allow": ["a.x"]}, "responses": {"max": 1}}, ["b.y"]),
        ({"responses": {"max": 1}}, ["a.x", "b.y"]),
        ({"publish": {"deny": ["b.>"]}}, ["b.y"]),
        ({"subscribe": {"deny": ["c.d"]}}, []),
        ({"subscribe": {"deny": ["c.>"]}}, ["c.*"]),
        ({"publish": {"deny": ["a.*"]}}, ["a.x"]),
        ({"subscribe": {"allow": ["c.* group"], "deny": ["c.* other"]}}, []),
        ({"publish": {"allow": ["a.x", "b.y", "_INBOX.>"]}}, []),
        ("nonsense", []),
    ],
)
def test_what_the_server_tells_is_compared(told: Any, lacking: list[str]) -> None:
    assert [subject for _, subject in missing(NEEDED, Granted.of(told))] == lacking


def test_a_subject_that_another_covers_is_not_listed() -> None:
    rights = Rights(publish={"a.*": "", "a.b": "", "a.>": "", "c": ""}).tidy()
    assert list(rights.publish) == ["a.>", "c"]


def invoked(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["permissions", *arguments])


def test_the_formats_say_the_same() -> None:
    common = [f"{TARGET}:digester", "--role", "worker", "--role", "admin", "--namespace", "demo"]
    told = json.loads(invoked(*common, "--format", "json").stdout)
    config = invoked(*common).stdout
    script = invoked(*common, "--format", "nsc").stdout
    assert [(one["user"], one["account"]) for one in told["users"]] == [
        ("digester", "ROOST_demo"),
        ("admin", "ROOST_demo_LOG"),
    ]
    for one in told["users"]:
        assert f"nsc add user --account {one['account']} --name {one['user']} " in script
        for action, option in (("publish", "--allow-pub"), ("subscribe", "--allow-sub")):
            assert f"{option} '{','.join(one[action])}'" in script
            for subject in one[action]:
                assert f'"{subject}"  # ' in config
    assert 'allow_responses: { max: 1, expires: "120s" }' in config
    assert "--allow-pub-response=1 --response-ttl 120s" in script
    assert "password: $ROOST_PASSWORD_DIGESTER" in config


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "name an agent"),
        (["--role", "caller"], "name the agents or contracts"),
        ([f"{TARGET}:digester", "--role", "coordinator"], "is no coordinator but a worker"),
        ([f"{TARGET}:digester", f"{TARGET}:linker", "--user", "both"], "one user, and these are 2"),
        ([f"{TARGET}:digester", "--user", "a b"], "character ' '"),
        ([f"{TARGET}:a_bus"], "no Agent and no contract"),
        ([f"{TARGET}:digester", f"{TARGET}:digester"], "their names must differ"),
        (["--role", "admin", "--system", "--format", "nsc"], "--system is for --format nats"),
        (["--role", "admin", "--system", "--user", "system"], "another name by --user"),
    ],
)
def test_what_cannot_be_is_refused(arguments: list[str], complaint: str) -> None:
    refused = invoked(*arguments)
    assert refused.exit_code == 2
    assert complaint in " ".join(refused.stderr.split())
    assert refused.stdout == ""


def test_half_of_an_agents_roles_would_not_start() -> None:
    both = roost.Agent("both")
    both.handles(team.secret)(team.do_secret)
    both.reports(team.pack)(team.report)
    with pytest.raises(ConfigError, match="add --role reporter"):
        users_of(both, roles=["worker"])
    assert users_of(both)[0].does == "worker, reporter both"


def test_a_topic_that_would_reach_into_the_log_is_refused() -> None:
    inside = roost.Topic("shop.{kind}.{rest}", team.News)
    with pytest.raises(ConfigError, match="begin with another word"):
        users_of(inside, roles=["caller"])


def test_calls_that_are_no_contracts_are_refused() -> None:
    calls: Any = ["pack"]
    with pytest.raises(ConfigError, match="must be contracts"):
        roost.Agent("a", calls=calls)


def test_no_password_is_printed() -> None:
    text = block(users_of(team.packer))
    assert text.count("pw") == 1  # the test's own

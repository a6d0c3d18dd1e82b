"""Subjects: what is refused, what a key becomes, what a template renders, matches and subscribes to."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.errors import ConfigError, UnsafeToken
from roost.subjects import Template, contract_name, endpoint_subject, key_token, matches, token

SAFE = string.ascii_letters + string.digits + "_-"
safe_tokens = st.text(alphabet=SAFE, min_size=1, max_size=64)


@given(safe_tokens)
def test_a_safe_token_stays_as_it_is(value: str) -> None:
    assert token(value) == value == contract_name(value)


@given(
    st.text(max_size=70).filter(lambda text: not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text) or "\n" in text)
)
def test_everything_else_is_refused(value: str) -> None:
    with pytest.raises(UnsafeToken) as caught:
        token(value, name="agent")
    assert caught.value.name == "agent"


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("a.b", "character '.' at position 1"),
        ("*", "character '*' at position 0"),
        (">", "character '>' at position 0"),
        ("a b", "character ' ' at position 1"),
        ("a\n", "character '\\n' at position 1"),
        ("ä", "character 'ä' at position 0"),
        ("a\u202e", r"\u202e"),
        ("", "it has 0 characters"),
        ("x" * 65, "it has 65 characters"),
    ],
)
def test_a_refusal_names_the_parameter_and_the_character(value: str, complaint: str) -> None:
    with pytest.raises(UnsafeToken) as caught:
        token(value, name="agent")
    assert str(caught.value).startswith("agent = ")
    assert complaint in str(caught.value)


def test_a_token_that_is_no_text_is_refused() -> None:
    with pytest.raises(UnsafeToken, match="no str but int"):
        token(7)  # type: ignore[arg-type]


def test_a_readable_key_stands_for_itself() -> None:
    assert key_token("docs-1") == "docs-1"


def test_the_hash_of_a_key_is_the_same_for_ever() -> None:
    assert key_token("docs/read me.md") == "h_zg4nvedo6eihjfpm72oky2yddc"


keys = st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=40)


@given(keys | keys.map(lambda key: "h_" + key))
def test_any_key_becomes_a_safe_token(key: str) -> None:
    assert token(key_token(key))


@given(keys)
def test_no_key_equals_the_hash_of_another(key: str) -> None:
    hashed = key_token(f"{key}/")
    assert hashed.startswith("h_")
    assert key_token(hashed) != hashed


@pytest.mark.parametrize("key", ["", "\ud800", "x" * (1024 * 1024 + 1), "ä" * (512 * 1024 + 1), None, b"k"])
def test_a_key_that_is_empty_huge_or_no_text_is_refused(key: str) -> None:
    with pytest.raises(UnsafeToken) as caught:
        key_token(key)
    assert len(str(caught.value)) < 300


def test_the_largest_key_is_accepted() -> None:
    assert key_token("x" * 1024 * 1024).startswith("h_")


def test_an_endpoint_has_one_subject_in_a_namespace() -> None:
    assert endpoint_subject("roost", "hello") == "roost.endpoint.hello"
    with pytest.raises(UnsafeToken, match="namespace"):
        endpoint_subject("a.b", "hello")
    with pytest.raises(UnsafeToken, match="name"):
        endpoint_subject("roost", "*")


# --- templates --------------------------------------------------------------------------------------


def test_a_template_renders_matches_and_subscribes() -> None:
    template = Template("team.{agent}.status.{level}")
    assert template.parameters == ("agent", "level")
    assert template.render(agent="w1", level="warn") == "team.w1.status.warn"
    assert template.match("team.w1.status.warn") == {"agent": "w1", "level": "warn"}
    assert template.wildcard == "team.*.status.*"
    assert template.pattern(agent="w1") == "team.w1.status.*"


def test_a_template_without_parameters_is_a_plain_subject() -> None:
    template = Template("team.news")
    assert template.render() == template.wildcard == "team.news"
    assert template.match("team.news") == {}
    assert template.match("team.newsy") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a.",
        "a..b",
        "a.*",
        "a.>",
        "a.b c",
        "a.{b",
        "a.b}",
        "a.{}",
        "a.{b c}",
        "a.{1b}",
        "a.{ä}",
        "a.x{b}",
        "a.{b}{c}",
        "a.{b}.{b}",
        "{a}.b",
        "$JS.API",
        "_INBOX.{a}",
        "a." + "x" * 65,
        ".".join("a" * 17),
        None,
    ],
)
def test_a_template_that_could_not_work_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="subject template"):
        Template(text)


def test_a_missing_or_unknown_parameter_is_named() -> None:
    template = Template("team.{agent}.{level}")
    with pytest.raises(ConfigError, match="parameter agent, level is missing"):
        template.render()
    with pytest.raises(ConfigError, match="no parameter 'colour'; it has: agent, level"):
        template.render(agent="a", level="b", colour="c")
    with pytest.raises(ConfigError, match="no parameter 'colour'"):
        template.pattern(colour="c")


@pytest.mark.parametrize("value", ["*", ">", "a.b", "", "a b"])
def test_a_parameter_never_becomes_a_wildcard(value: str) -> None:
    template = Template("team.{agent}")
    for fill in (template.render, template.pattern):
        with pytest.raises(UnsafeToken, match="agent = "):
            fill(agent=value)


@pytest.mark.parametrize(
    "subject",
    ["team", "team.", "team.a.b", "team.*", "team.>", "team.a\n", "xteam.a", "team.ä", "TEAM.a", ""],
)
def test_a_subject_that_nobody_could_render_does_not_match(subject: str) -> None:
    assert Template("team.{agent}").match(subject) is None


template_parts = st.lists(st.tuples(st.booleans(), safe_tokens), min_size=0, max_size=6)


@given(template_parts, st.data())
def test_what_is_rendered_is_matched_and_reaches_every_subscription(
    parts: list[tuple[bool, str]], data: st.DataObject
) -> None:
    text = ".".join(["root", *(f"{{p{i}}}" if is_one else word for i, (is_one, word) in enumerate(parts))])
    template = Template(text)
    values = {name: data.draw(safe_tokens) for name in template.parameters}
    subject = template.render(**values)
    assert template.match(subject) == values
    assert matches(template.wildcard, subject)
    fixed = {name: value for name, value in values.items() if data.draw(st.booleans())}
    assert matches(template.pattern(**fixed), subject)


def test_templates_are_values() -> None:
    assert Template("a.{b}") == Template("a.{b}")
    assert len({Template("a.{b}"), Template("a.{b}"), Template("a.{c}")}) == 2
    assert str(Template("a.{b}")) == "a.{b}"


# --- wildcards --------------------------------------------------------------------------------------


def matches_naively(pattern: list[str], subject: list[str]) -> bool:
    """The rule, word for word: `*` is one token, `>` is one or more at the end."""
    if not pattern or not subject:
        return not pattern and not subject
    if pattern == [">"]:
        return True
    return pattern[0] in ("*", subject[0]) and matches_naively(pattern[1:], subject[1:])


subject_tokens = st.sampled_from(["a", "b", "ab"])
pattern_tokens = st.sampled_from(["a", "b", "ab", "*"])


@given(
    st.lists(pattern_tokens, min_size=1, max_size=5),
    st.booleans(),
    st.lists(subject_tokens, min_size=1, max_size=6),
)
def test_wildcards_match_as_the_rule_says(pattern: list[str], open_end: bool, subject: list[str]) -> None:
    wanted = [*pattern, ">"] if open_end else pattern
    assert matches(".".join(wanted), ".".join(subject)) == matches_naively(wanted, subject)


@pytest.mark.parametrize(
    ("pattern", "subject"),
    [
        ("a.*", "a."),
        ("a.>", "a"),
        ("a.>", "a."),
        ("*", ""),
        ("", ""),
        ("a.>.b", "a.>.b"),
        ("a..b", "a..b"),
        (">", "a..b"),
    ],
)
def test_what_the_server_would_refuse_matches_nothing(pattern: str, subject: str) -> None:
    assert not matches(pattern, subject)

"""Trace identifiers: W3C Trace Context, level 1, and nothing of a stranger's header but its two numbers."""

from __future__ import annotations

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.observe import Trace

GOOD = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_header_is_read_and_written() -> None:
    trace = Trace.parse(GOOD)
    assert (trace.trace_id, trace.span_id) == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
    assert trace.header == GOOD


def test_a_child_is_another_span_of_the_same_trace() -> None:
    trace = Trace.new()
    child = trace.child()
    assert child.trace_id == trace.trace_id
    assert child.span_id != trace.span_id


def test_a_header_of_a_later_version_is_read_as_far_as_it_is_known() -> None:
    assert Trace.parse("cc" + GOOD[2:]).trace_id == "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
        "ff" + GOOD[2:],
        GOOD.upper(),
        GOOD + "\n",
        " " + GOOD,
        GOOD[:-1],
        GOOD + "-extra",
        "\u0660" * 55,
    ],
)
def test_a_header_that_is_not_valid_begins_a_new_trace(header: str | None) -> None:
    trace = Trace.parse(header)
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", trace.header)
    assert trace.trace_id != "0af7651916cd43dd8448eb211c80319c"


@given(st.text(max_size=80))
def test_any_text_can_be_read(text: str) -> None:
    assert re.fullmatch(r"[0-9a-f]{32}", Trace.parse(text).trace_id)


def test_traces_differ() -> None:
    assert len({Trace.new().trace_id for _ in range(10_000)}) == 10_000


def test_a_forked_process_does_not_repeat_its_parents_traces() -> None:
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(sink, Trace.new().header.encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(sink)
    with os.fdopen(source) as pipe:
        assert pipe.read() != Trace.new().header

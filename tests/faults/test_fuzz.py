"""The short form of `make fuzz`: a few thousand messages at a live agent. And what the page of results says."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

from faults.fuzz import KEPT, RESULT, fuzz
from roost.testing import faults


async def test_garbage_of_every_kind_at_an_agent_that_works(seed: int, tmp_path: Path) -> None:
    found = await fuzz(seed, 3000, tmp_path, commands=False)
    assert found.broken == []
    assert found.legitimate["task"] > 10
    assert found.refused["message_refused"] > 50, "the garbage has arrived"
    assert found.refused["pull_strayed"] > 20


def test_foreign_records_are_the_same_for_the_same_seed_and_whole_messages() -> None:
    first = list(islice(faults.foreign_records(1, "ns", ["work"], inboxes=["_INBOX.a"]), 2000))
    assert first == list(islice(faults.foreign_records(1, "ns", ["work"], inboxes=["_INBOX.a"]), 2000))
    assert {message[:4] for message in first} == {b"PUB ", b"HPUB"}
    assert all(message.endswith(b"\r\n") for message in first)
    for kind in (b".task.", b".end.", b".epoch ", b".sched.", b".fired.", b"ns.beat.", b"_INBOX.a."):
        assert any(kind in message for message in first), kind


def test_what_was_kept_of_the_long_form_held() -> None:
    kept = json.loads(RESULT.read_text(encoding="utf-8"))
    assert kept["messages"] >= KEPT
    assert kept["broken"] == []

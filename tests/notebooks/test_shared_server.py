"""Learners on the shared server of a hub: each below a prefix of their own, and nothing of theirs remains."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import build
import nats
import pytest
from course_kit import SOURCES
from hub import hub, url_of

from roost.server import LocalServer

AT_ONCE = {"ada": "03-subjects", "bob": "05-queue-groups"}
WITHOUT_JETSTREAM = "02-publish-subscribe"
LIMIT_S = 600


@pytest.fixture(scope="module")
def shared() -> Iterator[LocalServer]:
    with hub() as server:
        yield server


def chosen(pytestconfig: pytest.Config, *names: str) -> list[Path]:
    """All notebooks with --long, else those of these names."""
    return [one for one in SOURCES if one.stem in names or pytestconfig.getoption("--long")]


async def check(server: LocalServer, user: str, sources: list[Path]) -> str:
    """What the build's command says of these notebooks on the shared server; empty if all is well."""
    command = ["-m", "notebooks.build", "--check", *(str(source) for source in sources)]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *[*command, "--nats-url", url_of(server, user), "--prefix", user],
        cwd=build.HERE.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return said.decode() if process.returncode else ""


@pytest.mark.slow_limit(LIMIT_S)
async def test_two_learners_at_once_do_not_meet_and_leave_nothing(
    shared: LocalServer, pytestconfig: pytest.Config
) -> None:
    """The hub refuses what is outside their prefixes, which a cell would show as an error."""
    work = {user: chosen(pytestconfig, name) for user, name in AT_ONCE.items()}
    said = await asyncio.gather(*(check(shared, user, sources) for user, sources in work.items()))
    assert not any(said), "\n".join(said)
    admin = await nats.connect(url_of(shared, "admin"))
    left = (await admin.jetstream().account_info()).streams
    await admin.close()
    assert left == 0


@pytest.mark.slow_limit(LIMIT_S)
def test_without_jetstream_the_rest_runs_and_the_card_names_the_sections(
    shared: LocalServer, pytestconfig: pytest.Config
) -> None:
    environment = {"NATS_URL": url_of(shared, "eve"), "NATS_PREFIX": "eve"}
    for source in chosen(pytestconfig, WITHOUT_JETSTREAM):
        book = build.read(source, solved=True)
        text = build.shown(build.execute(book, folder=source.parent, environment=environment))
        skipped = [cell for cell in book.cells if re.match(r"# needs: .*jetstream", cell.source)]
        assert text.count("Not run here: this cell needs jetstream") == len(skipped), source.stem
        assert ("JetStream not enabled" in text.split("Cannot run here")[1]) == bool(skipped), source.stem
        assert "Nothing is left." in text, source.stem

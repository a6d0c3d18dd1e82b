"""`roost explain`: who would get a message on a subject."""

from __future__ import annotations

import dataclasses
import sys
from typing import Annotated

import typer

from roost.cli.options import AsJson, Url
from roost.cli.running import command, usage, wait_for
from roost.cli.terminal import print_json
from roost.connecting import connect
from roost.observe import Explanation
from roost.observe.explain import checked


@command
def explain_command(
    subject: Annotated[
        str, typer.Argument(metavar="SUBJECT", help="As it is on the wire, without wildcards.")
    ],
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, max=60, help="How long to wait for all servers.")
    ] = 2.0,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Show who would get a message on a subject: streams, subscriptions, members of queue groups.

    Nothing is delivered or stored. It takes the right to publish on the subject and on one's own inbox. Exit code 1: no
    answer, or not permitted.

    \b
    Examples:
      roost explain agents.worker1.status
      roost explain orders.7 --json
    """
    with usage():
        checked(subject)
    found = wait_for(_ask(subject, url, timeout))
    if json:
        print_json(dataclasses.asdict(found))
    else:
        sys.stdout.write(f"{found}\n")


async def _ask(subject: str, url: str | None, timeout_s: float) -> Explanation:
    async with connect(url, name="roost-cli") as bus:
        return await bus.explain(subject, timeout_s=timeout_s)

"""`roost runs signal`: what a waiting run is told from a shell, such as an approval."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from roost._json import BadJson, parse
from roost._text import clean, quoted
from roost.cli.naming import named_run
from roost.cli.options import Namespace, Url
from roost.cli.running import command, reading, usage, wait_for
from roost.contracts import Signal
from roost.runs import send_signal
from roost.subjects import token


@command
def signal_command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="As `Handle.id` gives it, or NAME:KEY.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the signal's contract.")],
    value: Annotated[
        str, typer.Argument(metavar="JSON", help="What it says, as JSON; - for standard input.")
    ],
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Send a signal to a run, which takes it when it waits for one of that name, now or later.

    This knows the name only: JSON that does not fit the contract is passed over by the run, which logs it.

    \b
    Example:
      roost runs signal audit:docs-1 approval '{"by": "ann"}'
    """
    with usage():
        token(name, name="NAME")
    said = _parsed(sys.stdin.buffer.read() if value == "-" else value.encode("utf-8", "surrogateescape"))
    id = wait_for(_send(run, Signal(name, object), said, url, namespace))
    sys.stderr.write(f"signal {name} sent to run {clean(id)}\n")


def _parsed(text: bytes) -> Any:
    try:
        return parse(text.strip())
    except BadJson as error:
        shown = quoted(text.decode("utf-8", "replace"))
        raise typer.BadParameter(
            f"{shown} is no JSON: {clean(str(error), 300)}. Write an object in quotes of the shell, such as "
            """'{"by": "ann"}', and a text as '"yes"'.""",
            param_hint="JSON",
        ) from error


async def _send(run: str, signal: Signal[Any], value: Any, url: str | None, namespace: str | None) -> str:
    async with reading(url, namespace) as bus:
        id = await named_run(bus.log, run)
        await send_signal(bus.log, id, signal, value)
        return id

"""`roost server`: a real NATS server on this machine, for as long as the terminal is open."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from roost.cli.running import command


@command
def server(
    port: Annotated[int, typer.Option(metavar="PORT", help="The port; 0 for any free one.")] = 4222,
    store: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep streams in this folder. Without it they are gone at the end."),
    ] = None,
) -> None:
    """Run a local NATS server until Ctrl-C.

    With JetStream. The first word of its output is its URL, printed when it is ready. It listens on loopback only.

    \b
    Example:
      roost server --store ./streams
    """
    from roost.server import ServerOptions
    from roost.server.foreground import run

    raise typer.Exit(run(ServerOptions(port=port, store_dir=store), out=sys.stdout))

"""Options that many commands have."""

from __future__ import annotations

import os
from typing import Annotated

import typer


def _address(context: typer.Context, url: str | None) -> str | None:
    """A URL as it may stand on a command line.

    Every user of a machine can read the arguments of every process (`ps`), so a password among them is given away.
    """
    if url is not None and "@" in url:
        raise typer.BadParameter(
            "it has a user, password or token in it, which everybody on this machine can read in the list of "
            "processes. Set NATS_URL instead, or NATS_CREDS, NATS_NKEY, NATS_USER and NATS_PASSWORD, or use "
            "--context."
        )
    if url is not None and context.find_root().params.get("context") is not None:
        raise typer.BadParameter("--context has its own address: give one of the two.")
    return url


def use_context(name: str | None) -> None:
    """Let this process, and those that it starts, take a context of the `nats` tool, whatever NATS_URL says."""
    if name is not None:
        os.environ.pop("NATS_URL", None)
        os.environ["NATS_CONTEXT"] = name


Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help="The server, or several, separated by commas.",
        show_default="NATS_URL, else the nats context, else nats://127.0.0.1:4222",
        callback=_address,
    ),
]
Context = Annotated[
    str | None,
    typer.Option(
        "--context",
        metavar="NAME",
        help="Server and credentials from this context of the `nats` tool.",
        show_default="NATS_URL, else NATS_CONTEXT, else the selected one",
    ),
]
Namespace = Annotated[
    str | None,
    typer.Option(
        "--namespace", metavar="NAME", help="The namespace.", show_default="ROOST_NAMESPACE, else roost"
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

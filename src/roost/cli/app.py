"""The commands, put together."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

import roost
from roost.cli import dead, demo, provision, runs, server, tasks, timeline, up

app = typer.Typer(
    name="roost",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"roost {roost.__version__}")
        raise typer.Exit


@app.callback()
def roost_command(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Multi-agent systems over NATS.

    `roost demo` shows what it does, on the files of a folder. NATS_URL and ROOST_NAMESPACE in the environment
    say which server and which namespace the other commands talk to.
    """


app.command("demo")(demo.demo)
app.command("up")(up.up_command)
app.command("server")(server.server)
app.command("provision")(provision.provision_command)
app.add_typer(dead.app, name="dead")
app.add_typer(tasks.app, name="tasks")
app.add_typer(runs.app, name="runs")
app.command("timeline")(timeline.timeline)


def run() -> None:
    """Run a command and exit."""
    # Events of the connection are for the logs of agents; here, what matters is in the error that follows.
    logging.getLogger("roost").addHandler(logging.NullHandler())
    logging.getLogger("nats").addHandler(logging.NullHandler())
    app(prog_name="roost")

"""The commands, put together."""

from __future__ import annotations

import logging
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import roost
from roost.cli import (
    agents,
    dead,
    demo,
    doctor,
    explain,
    permissions,
    provision,
    replaying,
    runs,
    schedules,
    server,
    signalling,
    status,
    tasks,
    timeline,
    up,
    upkeep,
)
from roost.cli.options import Context, use_context


class Commands(TyperGroup):
    """Says where --context stands to somebody who wrote it after the command, where most tools have it."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            if getattr(error, "option_name", None) != "--context":
                raise
            hint = "it stands before the command, as in: roost --context prod status"
            raise typer.BadParameter(hint, ctx=getattr(error, "ctx", ctx), param_hint="--context") from None


app = typer.Typer(
    name="roost",
    cls=Commands,
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
    context: Context = None,
) -> None:
    """Multi-agent systems over NATS.

    `roost demo` shows what it does, on the files of a folder. The other commands talk to the server that --context,
    NATS_URL or the selected context of the `nats` tool says, and to the namespace of ROOST_NAMESPACE.
    """
    use_context(context)


app.command("demo")(demo.demo)
app.command("up")(up.up_command)
app.add_typer(server.app, name="server")
app.command("upkeep")(upkeep.upkeep_command)
app.command("prune")(upkeep.prune_command)
app.command("status")(status.status)
app.command("doctor")(doctor.doctor)
app.command("provision")(provision.provision_command)
app.command("permissions")(permissions.permissions_command)
app.command("agents")(agents.agents)
app.command("explain")(explain.explain_command)
dead.app.command("replay")(replaying.replay_command)
app.add_typer(dead.app, name="dead")
app.add_typer(tasks.app, name="tasks")
app.add_typer(schedules.app, name="schedules")
runs.app.command("signal")(signalling.signal_command)
app.add_typer(runs.app, name="runs")
app.command("timeline")(timeline.timeline)


def run() -> None:
    """Run a command and exit."""
    # Events of the connection are for the logs of agents; here, what matters is in the error that follows.
    logging.getLogger("roost").addHandler(logging.NullHandler())
    logging.getLogger("nats").addHandler(logging.NullHandler())
    app(prog_name="roost")

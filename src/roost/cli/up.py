"""`roost up`: agents in processes of their own, kept running."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from roost._text import clean
from roost.cli.options import Namespace, Url
from roost.cli.running import command, usage, wait_for
from roost.runtime import AgentSpec, Notice, SupervisorOptions, up
from roost.settings import resolve

STYLES = {
    "ready": "green",
    "waiting": "yellow",
    "failed": "red",
    "ended": "red",
    "killed": "red",
    "stopped": "dim",
}


@command
def up_command(
    agents: Annotated[list[str], typer.Argument(metavar="MODULE:AGENT", help="Where the agents are.")],
    processes: Annotated[int, typer.Option(metavar="N", min=1, help="Processes of each agent.")] = 1,
    grace: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long running handlers may take at the end.")
    ] = 10.0,
    log_level: Annotated[
        str,
        typer.Option(
            metavar="LEVEL", help="Of agents' logs: debug (with whole tracebacks), info, warning, error."
        ),
    ] = "info",
    health_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Written anew every 2 s; its first line is `ready` when all processes are. For probes.",
        ),
    ] = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Run agents in processes of their own.

    They run until Ctrl-C or SIGTERM. A process that dies is started again, after a delay that grows from death
    to death. At the end running handlers finish within the grace period; what does not is handed back and
    delivered again. Exit code 0: all of that went well. 1: no process could be started, or one had to be killed.

    Server and login are those of --context, which stands before the command, or of NATS_URL with NATS_CREDS,
    NATS_NKEY, NATS_TOKEN, or NATS_USER with NATS_PASSWORD or ROOST_PASSWORD_FILE. None is an argument, for everybody
    on a machine can list those.

    \b
    Examples:
      roost up shop.agents:packer shop.agents:clerk --processes 4
      roost --context prod up shop.agents:packer
      NATS_CREDS=packer.creds roost up shop.agents:packer --url tls://nats.example.com
    """
    with usage():
        specs = [AgentSpec(target=target, processes=processes) for target in agents]
        options = SupervisorOptions(grace_s=grace, log_level=log_level)
    settings = resolve(url, namespace=namespace)
    count = len(specs) * processes
    told = Printer(count)
    told(
        f"{_counted(len(specs), 'agent', 'agents')} in {_counted(count, 'process', 'processes')} on "
        f"{settings.shown}, namespace {settings.namespace}; Ctrl-C stops"
    )
    raise typer.Exit(
        wait_for(up(specs, url=url, namespace=namespace, options=options, health=health_file, tell=told))
    )


class Printer:
    """Notices on standard error. What several of `processes` say in the same words is said once.

    Why they wait is said once until all of them have got past it: not every one is ready, or waits, at the same
    moment, and a slow one that speaks last waits for what was said before. Then it is a new outage.
    """

    def __init__(self, processes: int) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._processes = processes
        self._waiting: set[str] = set()
        self._past: set[str] = set()  # names of those that wait no more: ready, or failed for another reason
        self._failed: set[str] = set()
        self._anybody_ready = False

    def __call__(self, notice: Notice | str) -> None:
        if isinstance(notice, str):
            self._print(notice, "bold")
            return
        if notice.kind == "ready":
            self._anybody_ready = True
        if notice.kind in ("ready", "failed"):
            self._past.add(notice.name)
            if len(self._past) >= self._processes:
                self._waiting.clear()
        if notice.kind == "waiting":
            self._past.discard(notice.name)
            if self._seen(self._waiting, notice.text):
                return
        elif notice.kind == "failed" and not self._anybody_ready:
            if not self._seen(self._failed, notice.text):
                self._print(f"{notice.name} cannot start: {notice.text}", "red")
            return
        elif notice.kind == "stopping":
            return  # said for all of them at once
        self._print(str(notice), STYLES.get(notice.kind, ""))

    def _seen(self, texts: set[str], text: str) -> bool:
        known = text in texts
        texts.add(text)
        return known

    def _print(self, text: str, style: str) -> None:
        self._console.print(Text.assemble(("roost ", "dim"), (clean(text, 2000), style)))
        sys.stderr.flush()


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"

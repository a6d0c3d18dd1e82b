"""`roost demo`: the main job, on real files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from roost.cli.options import AsJson
from roost.cli.running import command


@command
def demo(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="The folder to audit.", show_default=False)
    ] = Path(),
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the report goes.")] = Path("roost-demo"),
    workers: Annotated[
        int, typer.Option(metavar="N", min=1, max=64, help="Processes that digest files.")
    ] = 2,
    faults: Annotated[
        bool,
        typer.Option("--faults", help="Kill a worker and the coordinator, and plant two files that fail."),
    ] = False,
    json: AsJson = False,
) -> None:
    """Audit the text files of a folder with a team of agents.

    Without PATH it is the current folder. Starts a local server, a coordinator, digest and link-checking workers
    and a reporter, each a process of its own, and writes report.md, report.json and timeline.svg.

    With --faults it ends well all the same, with the same report but for the planted files: one ends as a dead
    letter, one is retried, and the coordinator is resumed; the picture shows it.

    \b
    Example:
      roost demo ~/notes --workers 4 --out /tmp/audit
      roost demo --faults
    """
    from roost.demo.main import run_demo

    raise typer.Exit(run_demo(path, out=out, workers=workers, as_json=json, faults=faults))

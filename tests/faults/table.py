"""Makes the table of `docs/reliability.md` from `docs/reliability.json`: `python -m faults.table`."""

from __future__ import annotations

import json
from itertools import groupby
from typing import Any

from faults import rows_between as rows_between
from faults.rows import ROWS, Row
from faults.scene import RESULTS

PAGE = RESULTS.with_suffix(".md")
BEGIN, END = "<!-- table -->", "<!-- end of table -->"
HEAD = (
    "| fault | promise | servers | runs | tasks | lost | doubled | without a submission | without an outcome |\n"
    "|---|---|---:|---:|---:|---:|---:|---:|---:|"
)


def table(results: list[dict[str, Any]]) -> str:
    """One line for each row and number of servers; what has no result reads "not run"."""
    by_row = {
        key: list(found) for key, found in groupby(results, key=lambda one: (one["row"], one["servers"]))
    }
    lines = [HEAD]
    for row in ROWS:
        for servers in row.servers:
            lines.append(line(row, servers, by_row.get((row.name, servers), [])))
    ran = [one for one in results if "not_run" not in one]
    if ran:
        commits = ", ".join(sorted({one["commit"] for one in ran}))
        last = max(one["date"] for one in ran)[:10]
        seeds = ", ".join(str(seed) for seed in sorted({one["seed"] for one in ran}))
        versions = ", ".join(sorted({one["server"] for one in ran}))
        dead = sum(one["outcomes"].get("dead", 0) for one in ran)
        took_s = sum(one["duration_s"] for one in ran)
        lines.append(
            f"\nnats-server {versions}; commits {commits}; last run {last}; seeds {seeds}. {len(ran)} runs took "
            f"{took_s / 60:.0f} minutes; {dead:,} of {sum(one['tasks'] for one in ran):,} tasks ended as dead letters."
        )
    return "\n".join(lines)


def line(row: Row, servers: int, results: list[dict[str, Any]]) -> str:
    first = f"| {row.fault} | {row.promise} | {servers} | "
    ran = [one for one in results if "not_run" not in one]
    if not ran:
        why = f": {results[0]['not_run']}" if results else ""
        return first + f"not run{why} | | | | | |"
    total = [sum(one[name] for one in ran) for name in ("tasks", "lost", "doubled")]
    longest = [max(one[name] for one in ran) for name in ("longest_unavailable_s", "longest_still_s")]
    gaps = [f"{seconds:.1f} s" if seconds else "" for seconds in longest]
    cells = [len(ran), *(f"{number:,}" for number in total), *gaps]
    if not all(one["held"] for one in ran) and not row.no_promise:
        cells[0] = f"{len(ran)}, **broken**"
    return first + " | ".join(map(str, cells)) + " |"


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    made = table(json.loads(RESULTS.read_text(encoding="utf-8")))
    PAGE.write_text(f"{before}{BEGIN}\n{made}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()

"""The entry point `roost`. Whatever goes wrong ends in one sentence and an exit code, never in a traceback."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit: 0 done, 1 it failed (standard error says why), 2 wrong usage, 130 Ctrl-C."""
    try:
        from roost.cli.app import run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("typer", "rich"):
            raise
        sys.stderr.write(
            f"roost: the command line needs {error.name}, which is not installed. Run: pip install 'roost[cli]'\n"
        )
        sys.exit(1)
    except KeyboardInterrupt:  # while it was still importing
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()

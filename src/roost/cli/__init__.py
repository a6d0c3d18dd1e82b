"""The command line: one file per command, thin, on top of functions that a program can call as well.

Typer and rich are imported in here only, and only when the command line runs. `main` is the entry point.
"""

"""``python -m roost``: the command line, where the script `roost` is not on the path."""

from roost.cli.main import main

if __name__ == "__main__":
    main()

"""Reading files that hold secrets: only files that others on the machine cannot read or change.

A seed or a password that every local user can read is no secret, and nothing else would ever tell its owner.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from roost._text import quoted
from roost.errors import ConfigError

MAX_BYTES = 64 * 1024
"""A secret is small; a larger file is another file."""


def read_secret(path: str | os.PathLike[str], *, what: str) -> str:
    """The text of a file, without white space around it. `what` names the setting in errors, as in "creds_file".

    Refused is a file that others may read, write or run, or that its group may write: 0600, 0400, and for a
    group of trust 0640 and 0440 pass (a secret that Kubernetes mounts for a group has 0440). Raises ConfigError,
    which names the file and never has any of its contents.
    """
    shown = quoted(os.fspath(path), 300)
    file = Path(path).expanduser()
    try:
        with file.open("rb") as opened:
            check_mode(os.fstat(opened.fileno()), what=what, shown=shown)
            data = opened.read(MAX_BYTES + 1)
    except ConfigError:
        raise
    except (OSError, ValueError) as error:  # a path with a NUL in it is a ValueError
        raise ConfigError(f"{what} {shown} cannot be read: {reason(error)}") from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{what} {shown} has more than {MAX_BYTES} bytes: that is not the file of a secret")
    try:
        text = data.decode().strip()
    except UnicodeDecodeError:
        raise ConfigError(f"{what} {shown} is not a text file") from None  # its cause would hold the bytes
    if not text:
        raise ConfigError(f"{what} {shown} is empty")
    return text


def check_mode(found: os.stat_result, *, what: str, shown: str) -> None:
    """Raises ConfigError for a file that is not for its owner alone (see `read_secret`)."""
    mode = stat.S_IMODE(found.st_mode)
    if os.name == "posix" and stat.S_ISREG(found.st_mode) and mode & 0o027:
        raise ConfigError(
            f"{what} {shown} has mode {mode:04o}: others on this machine can get at the secret in it. "
            "Run `chmod 600` on it (in Kubernetes, set defaultMode: 0400); if others had access, replace the secret"
        )


def reason(error: OSError | ValueError) -> str:
    """What went wrong, without the path that an OSError repeats."""
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__

"""The files of one local server: its configuration, its log, and the note in which it says its port.

The port is chosen by the server itself (`-p -1`) and read from its ports file: a port found free by binding
and closing would be anybody's until the server takes it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from roost._text import clean
from roost.server.options import ServerOptions

__all__ = ["ServerFiles"]

_LOG_BYTES = 10_000_000  # at most two such files: a log must not fill the disk


@dataclass(frozen=True, slots=True)
class ServerFiles:
    """The directory `root` and what is in it. It is removed with everything when the server ends."""

    root: Path
    store: Path

    @classmethod
    def create(cls, options: ServerOptions) -> ServerFiles:
        """Makes the directory (mode 0700) and writes the configuration. Raises OSError."""
        root = Path(tempfile.mkdtemp(prefix="roost-server-")).resolve()
        store = options.store_dir.expanduser().absolute() if options.store_dir else root / "store"
        files = cls(root, store)
        try:
            files._ports.mkdir()
            files.configure(options)
        except BaseException:
            files.remove()
            raise
        return files

    def configure(self, options: ServerOptions) -> None:
        """Write the configuration, which the server reads when it starts or is told to reload."""
        self._config.write_text(configuration(options), encoding="utf-8")

    @property
    def _config(self) -> Path:
        return self.root / "nats-server.conf"

    @property
    def _ports(self) -> Path:
        return self.root / "ports"

    @property
    def _log(self) -> Path:
        return self.root / "server.log"

    @property
    def stderr(self) -> Path:
        """Where the server's (and its guard's) last words go: refused configuration, a panic."""
        return self.root / "stderr.log"

    def command(self, program: Path, host: str) -> list[str]:
        """Program and arguments, all but the port. What is given here wins over any line of configuration."""
        return [
            str(program),
            *("-c", str(self._config)),
            *("-a", host),
            *("--ports_file_dir", str(self._ports)),
            *("-js", "-sd", str(self.store)),
            *("-l", str(self._log)),
        ]

    def remove(self) -> None:
        """Removes the directory, and with it the store unless that is the user's own."""
        shutil.rmtree(self.root, ignore_errors=True)

    def forget_port(self) -> None:
        """Before a start: a killed server leaves its ports file behind."""
        for file in self._ports.glob("*.ports"):
            file.unlink(missing_ok=True)

    def port(self) -> int | None:
        """The port the server listens on; None as long as it has not written it down completely."""
        for file in self._ports.glob("*.ports"):
            try:
                urls: list[str] = json.loads(file.read_bytes())["nats"]
            except (ValueError, FileNotFoundError):
                return None  # seen between creation and the end of writing
            return urlsplit(urls[0]).port
        return None

    def log_size(self) -> int:
        """A mark in the log, for `log_tail`."""
        return self._log.stat().st_size if self._log.exists() else 0

    def log_tail(self, lines: int = 12, *, since: int = 0) -> list[str]:
        """The last lines of what the server said, safe to print; `since` leaves out what is older than a mark."""
        found: list[str] = []
        for file, skip in ((self._log, since), (self.stderr, 0)):
            if file.exists():
                data = file.read_bytes()
                found += data[skip if skip <= len(data) else 0 :].decode(errors="replace").splitlines()
        return [clean(line, 500) for line in found if line.strip()][-lines:]


def configuration(options: ServerOptions) -> str:
    """The configuration file. A repeated key wins over the former one, so the user's lines come last."""
    lines = [
        f"max_payload: {options.max_payload}",
        f"logfile_size_limit: {_LOG_BYTES}",
        "logfile_max_num: 2",
        # The announced next format of ack subjects breaks watching a bucket with nats-py 2.16.
        "feature_flags { js_ack_fc_v2: false }",
    ]
    if options.sync_always:
        lines.append("jetstream { sync_interval: always }")
    return "\n".join([*lines, options.extra_config, ""])

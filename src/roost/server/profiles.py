"""What a local server promises, by name: `dev` is fast, `durable` survives a power cut. Neither is a guess.

By default nats-server acknowledges a write before the disk has it and syncs every two minutes: a killed process
loses nothing, a power cut loses what was written since, or the whole stream if it is young. Whoever wants more says
so, names the place where the streams stay, and is told what it costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from roost._text import quoted
from roost.errors import ConfigError
from roost.server.options import ServerOptions

__all__ = ["ALWAYS", "PROFILES", "SYNC", "Profile", "options_for"]

SYNC, ALWAYS, LAZILY = "roost_sync", "always", "lazily"
"""What a server of a profile tells its clients (`server_metadata`), who cannot see when it syncs; all servers of a
cluster tell the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A promise about acknowledged writes, and what keeps it."""

    name: str
    sync_always: bool
    needs_store: bool
    single: str
    """What it means for one server, for people."""
    cluster: str
    """The same for three."""


PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        one.name: one
        for one in (
            Profile(
                name="dev",
                sync_always=False,
                needs_store=False,
                single="a killed process loses nothing, a power cut up to two minutes of writes or the whole stream",
                cluster="killed processes lose nothing; a power cut of all servers may lose the whole stream",
            ),
            # The figures are medians of acknowledged publishes of 512 bytes (disk: 0.2 ms for a sync).
            Profile(
                name="durable",
                sync_always=True,
                needs_store=True,
                single="every write is on the disk before it is acknowledged, so a power cut loses none; about 1/8 of "
                "the writes a second that dev does with many writers, 1/3 with one",
                cluster="every write is on the disks of most servers before it is acknowledged, so a power cut loses "
                "none; about 4/5 of the writes a second that dev does with many writers, 1/2 with one",
            ),
        )
    }
)


def options_for(
    profile: str, *, store_dir: Path | None, port: int = 0, start_timeout_s: float | None = None
) -> ServerOptions:
    """The options of a server of this profile. Raises ConfigError for an unknown one, or one without its store."""
    found = PROFILES.get(profile)
    if found is None:
        raise ConfigError(f"profile = {quoted(profile)}: there are {' and '.join(PROFILES)}.")
    if found.needs_store and store_dir is None:
        raise ConfigError(
            f"the profile {found.name} needs a store that stays: name a folder with --store (store_dir). Without one "
            "the streams would be removed at the end."
        )
    options = ServerOptions(
        port=port,
        store_dir=store_dir,
        sync_always=found.sync_always,
        extra_config=f"server_metadata {{ {SYNC}: {ALWAYS if found.sync_always else LAZILY} }}",
    )
    return options if start_timeout_s is None else replace(options, start_timeout_s=start_timeout_s)

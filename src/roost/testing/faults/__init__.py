"""Faults for tests of agents: each is real, is made on one machine, and is undone at the end of its block.

    kill, frozen        a process dies at once; a process stands still while its connections stay open
    Wire                what lies between a client and a server: cut, stalled, slow, or with garbage on it
    Disk                a small disk: full, slow to sync, or as a power cut would have left it
    slow_disk           each sync of a running process takes longer
    denied              a running local server takes rights away
    garbage             bytes, subjects and headers that no well-behaved peer sends
    foreign_records     the same at the subjects that Roost reads, where it almost fits

What a machine cannot do (no root, no strace) raises FaultUnavailable, so that a test can skip with its words.
`docs/faults.md` shows each at work.
"""

from roost.testing.faults._unavailable import FaultUnavailable
from roost.testing.faults.denial import RIGHTS, denied
from roost.testing.faults.disk import Disk
from roost.testing.faults.foreign import foreign_records
from roost.testing.faults.garbage import FATAL, garbage, raw_messages
from roost.testing.faults.processes import frozen, kill
from roost.testing.faults.slow import slow_disk
from roost.testing.faults.wire import Wire

__all__ = [
    "FATAL",
    "RIGHTS",
    "Disk",
    "FaultUnavailable",
    "Wire",
    "denied",
    "foreign_records",
    "frozen",
    "garbage",
    "kill",
    "raw_messages",
    "slow_disk",
]

"""Least privilege: what each role needs, as subjects; configuration with exactly that; the check at the start."""

from roost.permissions.accounts import User, accounts_of
from roost.permissions.nats_config import nats_config
from roost.permissions.nsc import nsc_commands
from roost.permissions.probe import check_rights
from roost.permissions.rights import ANSWERS, Granted, Rights, covers, missing, overlap
from roost.permissions.roles import (
    OWN,
    ROLES,
    SERVING,
    Called,
    Job,
    administering,
    calling,
    inbox_of,
    observing,
    scheduling,
    serving,
)

__all__ = [
    "ANSWERS",
    "OWN",
    "ROLES",
    "SERVING",
    "Called",
    "Granted",
    "Job",
    "Rights",
    "User",
    "accounts_of",
    "administering",
    "calling",
    "check_rights",
    "covers",
    "inbox_of",
    "missing",
    "nats_config",
    "nsc_commands",
    "observing",
    "overlap",
    "scheduling",
    "serving",
]

"""Who is there: each instance of an agent is a NATS micro service and says at intervals how it is.

Here live names of instances, heartbeats, the answers that ADR-32 wants, and a caller's view of all that. What
instances do with messages does not: they hand in counters, and nothing here is called while they work.
"""

from roost.discovery.asking import TIMEOUT_S, find_agents
from roost.discovery.card import Card, Load, Part, schemas_of
from roost.discovery.info import AgentInfo, AgentState, Capability, HandlerInfo
from roost.discovery.names import (
    HEARTBEAT_S,
    beat_subject,
    check_heartbeat,
    check_version,
    instance_name,
    random_suffix,
)
from roost.discovery.presence import Presence
from roost.discovery.roster import AgentChange
from roost.discovery.tally import Tally
from roost.discovery.watching import AgentWatch

__all__ = [
    "HEARTBEAT_S",
    "TIMEOUT_S",
    "AgentChange",
    "AgentInfo",
    "AgentState",
    "AgentWatch",
    "Capability",
    "Card",
    "HandlerInfo",
    "Load",
    "Part",
    "Presence",
    "Tally",
    "beat_subject",
    "check_heartbeat",
    "check_version",
    "find_agents",
    "instance_name",
    "random_suffix",
    "schemas_of",
]

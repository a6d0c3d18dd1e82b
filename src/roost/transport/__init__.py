"""The hardened NATS client, its requests, its JetStream calls and its pull pump.

Nothing here knows of contracts, agents or tasks; nothing above imports nats-py.
"""

from roost.transport.client import Client
from roost.transport.connection import Link, open_client, open_link
from roost.transport.jetstream import JetStream
from roost.transport.listener import Listener
from roost.transport.message import Message
from roost.transport.pull import Pump
from roost.transport.requests import Requests
from roost.transport.status import JetStreamStatus, ServerStatus, read_status

__all__ = [
    "Client",
    "JetStream",
    "JetStreamStatus",
    "Link",
    "Listener",
    "Message",
    "Pump",
    "Requests",
    "ServerStatus",
    "open_client",
    "open_link",
    "read_status",
]

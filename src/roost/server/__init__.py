"""A real NATS server on this machine: found, started on loopback, and gone for certain afterwards.

Here live finding the program, starting, freezing, killing and stopping it, and the guard that ends it when
its user is gone. What talks to a server as a client does not belong here: nothing below imports `nats`.
"""

from roost.server.cluster import LocalCluster
from roost.server.find import find_server
from roost.server.local import LocalServer
from roost.server.options import ServerOptions
from roost.server.scope import local_cluster, local_server

__all__ = ["LocalCluster", "LocalServer", "ServerOptions", "find_server", "local_cluster", "local_server"]

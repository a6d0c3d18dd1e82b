"""How to reach the server and who to say one is: arguments, environment, `nats` CLI contexts.

Pure but for reading files. Nothing here opens a connection; nothing here is ever printed with a secret in it.
"""

from roost.settings.credentials import Credentials, Secret
from roost.settings.options import Settings
from roost.settings.resolve import DEFAULT_URL, resolve
from roost.settings.tls import TLS

__all__ = ["DEFAULT_URL", "TLS", "Credentials", "Secret", "Settings", "resolve"]

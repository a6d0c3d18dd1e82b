"""Why a connection failed or ended, in words. They stay inside this package: `RoostError`s go out of it.

nats-py's own errors print one fixed sentence each and lose what the server said; these keep it. They are
kinds of nats-py's, so that its code recognises them.
"""

from __future__ import annotations

from nats import errors as nats_errors


class ServerClosed(nats_errors.UnexpectedEOF):
    """The other side ended the connection."""

    def __str__(self) -> str:
        return "the server closed the connection"


class ServerSilent(ServerClosed):
    """It did so without having said anything: one that waits for TLS first, or nothing behind a proxy."""

    def __str__(self) -> str:
        return "the server closed the connection without a word"


class Stale(nats_errors.StaleConnectionError):
    """Nothing has been heard for several pings."""

    def __str__(self) -> str:
        return "nothing was heard from the server any more"


class Malformed(nats_errors.ProtocolError):
    """What was received is not the NATS protocol."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def __str__(self) -> str:
        return f"not the NATS protocol: {self.what}"


class NotEncrypted(nats_errors.SecureConnWantedError):
    """TLS was asked for, or the server is not on this machine, and it was not offered; nothing was sent."""

    def __init__(self, *, exposed: bool = False) -> None:
        super().__init__()
        self.exposed = exposed

    def __str__(self) -> str:
        if self.exposed:
            return (
                "the server did not offer TLS and is not on this machine; no credentials were sent, for anybody in "
                "between could read them. Set the server up with TLS; in a network that you trust, insecure=True "
                "or ROOST_INSECURE=1 goes on in clear"
            )
        return "the server did not offer TLS although it was asked for; no credentials were sent"


class Anonymous(nats_errors.AuthorizationError):
    """There is nothing to say who this is with, and the server is not on this machine."""

    def __str__(self) -> str:
        return (
            "without authentication only a server on this machine is talked to: give credentials (roost.Credentials, "
            "NATS_CREDS, a nats context) or a certificate (roost.TLS, NATS_CERT). Where really everybody may do "
            "everything, insecure=True or ROOST_INSECURE=1 goes on"
        )


class Refused(nats_errors.Error):
    """The server said -ERR."""


class AuthRefused(nats_errors.AuthorizationError):
    """The server does not, or no longer, accept these credentials."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return self.text


_AUTH = ("authorization", "authentication", "user revoked", "credential")


def is_auth_failure(text: str) -> bool:
    """Whether a `-ERR` means that the server does not, or no longer, accept who we are."""
    low = text.lower()
    return any(sign in low for sign in _AUTH)


def refusal(text: str) -> nats_errors.Error:
    """The error that stands for a server's `-ERR`, whose quotes are taken off."""
    shown = text.strip().strip("'")
    return AuthRefused(shown) if is_auth_failure(shown) else Refused(shown)

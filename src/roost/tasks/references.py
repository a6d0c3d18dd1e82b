"""Large payloads: where they are kept, and how a record refers to one. Pure.

A payload above `INLINE_BYTES` is an object of its own: chunks on one subject of a stream beside the log, in the layout
of the object store of NATS (ADR-20), so that `nats object ls` lists it. Its name follows from the subject of the record
that refers to it, and a token that each writer draws anew. So nobody can be sent to an object of another task, the
objects of a run are found by its name, and of two writers of one record neither disturbs the other.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

from roost import _json
from roost.codec import canonical_equal
from roost.contracts import Task, Workflow
from roost.errors import InvalidMessage
from roost.tasks.batch import Pairs
from roost.tasks.marks import OBJECT

INLINE_BYTES = 256 * 1024
"""Size of a payload up to which it stands in its record."""
CHUNK_BYTES = 128 * 1024
"""Size of a chunk, as of other clients of the object store; far below the server's `max_payload` of 1 MiB."""

_is_token = re.compile("[A-Za-z0-9_-]{1,64}").fullmatch
_is_digest = re.compile("[0-9a-f]{64}").fullmatch


@dataclass(frozen=True, slots=True)
class Reference:
    """What a record holds instead of a payload."""

    object: str
    """The token: the last part of the object's name."""
    size: int
    """Bytes."""
    sha256: str

    @property
    def marks(self) -> Pairs:
        """The mark of the record that has this reference."""
        return ((OBJECT, self.object),)

    def encode(self) -> bytes:
        return to_json(self._fields())

    def _fields(self) -> dict[str, Any]:
        return {"object": self.object, "bytes": self.size, "sha256": self.sha256}

    def fits(self, data: bytes) -> bool:
        """Whether it is one to exactly this payload."""
        return self.size == len(data) and self.sha256 == digest_of(data)

    @classmethod
    def of(cls, data: bytes, *, subject: str) -> Reference:
        """The reference that a marked record holds: itself, or that of an outcome's value. Raises InvalidMessage."""
        told = _fields_of(data)
        inner = told.get("object")
        if isinstance(inner, dict):
            told = inner
        token, size, digest = told.get("object"), told.get("bytes"), told.get("sha256")
        if not (
            isinstance(token, str)
            and _is_token(token)
            and type(size) is int
            and size >= 0
            and isinstance(digest, str)
            and _is_digest(digest)
        ):
            raise InvalidMessage(
                subject=subject,
                field="object",
                reason=f"its header says {OBJECT}, and it holds no reference to one",
            )
        return cls(token, size, digest)


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def allows_large(contract: Task[Any, Any] | Workflow[Any, Any]) -> bool:
    """Whether its payloads may be objects."""
    return contract.limits.max_bytes > INLINE_BYTES


def is_large(marks: Pairs) -> bool:
    """Whether a record with these marks refers to its payload."""
    return any(name == OBJECT for name, _ in marks)


def done_elsewhere(done: bytes, reference: Reference) -> bytes:
    """The record of an outcome whose value is an object; `done` has null in its place."""
    return done[:-1] + b',"object":' + reference.encode() + b"}"


def done_whole(done: bytes, value: bytes) -> bytes:
    """The same with its value, as if that were small."""
    told = {name: one for name, one in _fields_of(done).items() if name not in ("object", "value")}
    return to_json(told)[:-1] + b',"value":' + value + b"}"


def pointing_to(data: bytes, reference: Reference) -> bytes:
    """What a marked record holds, with another reference: of a record that is copied."""
    told = _fields_of(data)
    if isinstance(told.get("object"), dict):
        return to_json({**told, "object": reference._fields()})
    return reference.encode()


def same_payload(data: bytes, marks: Pairs, other: bytes, others: Pairs, *, subject: str) -> bool:
    """Whether two records hold the same payload; large ones are compared by their digests, so byte for byte."""
    if is_large(marks) != is_large(others):
        return False
    if not is_large(marks):
        return data == other or canonical_equal(data, other)
    try:
        one, another = Reference.of(data, subject=subject), Reference.of(other, subject=subject)
    except InvalidMessage:
        return False
    return (one.size, one.sha256) == (another.size, another.sha256)


def _fields_of(data: bytes) -> Mapping[str, Any]:
    try:
        told = _json.parse(data)
    except _json.BadJson:
        return {}
    return told if isinstance(told, dict) else {}


# Names ------------------------------------------------------------------------------------------------


def bucket(namespace: str) -> str:
    return f"ROOST_{namespace}"


def objects_stream(namespace: str) -> str:
    return f"OBJ_{bucket(namespace)}"


def chunks_of(namespace: str, name: str) -> str:
    """The subject of an object's chunks; `name` may be a pattern."""
    return f"$O.{bucket(namespace)}.C.{name}"


def about(namespace: str, name: str) -> str:
    """The subject of what is said about an object."""
    return f"$O.{bucket(namespace)}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"


def about_any(namespace: str) -> str:
    return f"$O.{bucket(namespace)}.M.*"


def metadata(namespace: str, name: str, reference: Reference) -> bytes:
    """What is said about an object, for tools that read the object store: Roost itself never reads it."""
    digest = base64.urlsafe_b64encode(bytes.fromhex(reference.sha256)).decode()
    return json.dumps(
        {
            "name": name,
            "bucket": bucket(namespace),
            "nuid": name,
            "size": reference.size,
            "chunks": -(-reference.size // CHUNK_BYTES),
            "digest": f"SHA-256={digest}",
            "mtime": "0001-01-01T00:00:00Z",
            "options": {"max_chunk_size": CHUNK_BYTES},
        }
    ).encode()


def objects_config(namespace: str) -> dict[str, Any]:
    """The stream of objects. Its size, its replicas and its placement are the administrator's and not compared.

    Other clients' object stores allow rollups, which replace an object's metadata; here names are never used twice,
    and whoever may write one object could remove all others by a rollup.
    """
    return {
        "name": objects_stream(namespace),
        "subjects": [chunks_of(namespace, ">"), about_any(namespace)],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "max_msgs": -1,
        "max_msgs_per_subject": -1,
        "max_age": 0,
        "deny_purge": False,
        "allow_rollup_hdrs": False,
        "allow_direct": True,
        "allow_msg_ttl": False,
        "allow_msg_schedules": False,
        "sealed": False,
        "no_ack": False,
        "max_msg_size": -1,
        "discard_new_per_subject": False,
        "mirror": None,
        "sources": None,
        "subject_transform": None,
    }

"""The rules for answers of a NATS micro service, as models.

They say what the published schemas say (https://github.com/nats-io/jsm.go/tree/main/schemas/micro/v1, draft 7, read
at commit caea3c5): required fields, types, patterns. Fields that the schemas do not name are allowed there and here.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]+$", min_length=1)]
Text = Annotated[str, Field(min_length=1)]
# The pattern is the one that semver.org suggests; pydantic's engine reads \d as any digit, so [0-9] stands here.
SemVer = Annotated[
    str,
    Field(
        min_length=5,
        pattern=(
            r"^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
            r"(?:-((?:0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)"
            r"(?:\.(?:0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
            r"(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?$"
        ),
    ),
]
Integer = Annotated[int, Field(ge=-(2**63), lt=2**63)]


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)


class Head(Strict):
    name: Name
    id: Text
    version: SemVer
    metadata: dict[str, str] | None


class Ping(Head):
    type: Literal["io.nats.micro.v1.ping_response"]


class EndpointInfo(Strict):
    name: Name
    subject: Text
    queue_group: str
    metadata: dict[str, str] | None


class Info(Head):
    type: Literal["io.nats.micro.v1.info_response"]
    description: str
    endpoints: list[EndpointInfo]


class EndpointStats(Strict):
    name: Name
    subject: Text
    queue_group: str
    num_requests: Integer
    num_errors: Integer
    last_error: str
    processing_time: Integer
    average_processing_time: Integer
    data: Any


class Stats(Head):
    type: Literal["io.nats.micro.v1.stats_response"]
    started: str
    endpoints: list[EndpointStats]

    @property
    def started_at(self) -> datetime:
        """RFC 3339; raises ValueError for anything else, or without a time zone."""
        when = datetime.fromisoformat(self.started)
        if when.tzinfo is None or "T" not in self.started:
            raise ValueError(f"no RFC 3339: {self.started}")
        return when

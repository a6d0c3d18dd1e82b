"""Options that cannot be are refused before anything is started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from roost.errors import ConfigError
from roost.server import ServerOptions


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.org", ""])
def test_an_address_that_others_can_reach_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="loopback only"):
        ServerOptions(host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1", "localhost"])
def test_loopback_is_accepted(host: str) -> None:
    assert ServerOptions(host=host).host == host


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("port", -1),
        ("port", 65536),
        ("port", True),
        ("port", "4222"),
        ("max_payload", 0),
        ("max_payload", 64 * 1024 * 1024 + 1),
        ("start_timeout_s", 0),
        ("start_timeout_s", float("inf")),
        ("stop_grace_s", -1.0),
        ("store_dir", "a/string"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_name(field: str, value: object) -> None:
    options: dict[str, Any] = {field: value}
    with pytest.raises(ConfigError, match=f"^{field} = "):
        ServerOptions(**options)


def test_options_cannot_be_changed_afterwards() -> None:
    options = ServerOptions(store_dir=Path("somewhere"))
    with pytest.raises(AttributeError):
        options.port = 1  # type: ignore[misc]

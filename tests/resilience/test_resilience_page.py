"""The code of docs/resilience.md runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from resilience_kit import Facts, Query

import roost

PAGE = Path(__file__).parents[2] / "docs" / "resilience.md"


async def test_its_snippets_run(nats_url: str, namespace: str, capsys: pytest.CaptureFixture[str]) -> None:
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(snippets) >= 4

    async def ask_service(city: str) -> str:
        if city == "nowhere":
            raise OSError("no service")
        return f"rain in {city}"

    async with roost.connect(nats_url, namespace=namespace) as bus:
        names: dict[str, Any] = {
            **vars(roost),
            **{name: getattr(roost, name) for name in roost.__all__},
            "ask_service": ask_service,
            "Query": Query,
            "Facts": Facts,
            "Page": Query,
            "Digest": Facts,
            "Folder": Query,
            "Report": Facts,
            "agent": roost.Agent("digester"),
            "digest": roost.Task("digest", Query, Facts),
            "bus": bus,
        }
        for snippet in snippets:
            exec(compile(snippet, str(PAGE), "exec"), names)
        assert await names["forecast"]("Rome") == "rain in Rome"
        for _ in range(10):
            try:
                await names["forecast"]("nowhere")
            except OSError:
                continue
        assert (await names["forecast"]("Rome")).startswith("unknown; ask again in")
        assert names["lookup"].idempotent
        assert names["agent"].job.pauses == ("digest",)
    await names["main"]()
    assert "weather" in capsys.readouterr().out

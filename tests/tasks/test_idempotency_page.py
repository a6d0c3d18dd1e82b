"""The code of docs/idempotency.md runs as it stands there."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import roost

PAGE = Path(__file__).parents[2] / "docs" / "idempotency.md"


async def test_its_snippets_run(nats_url: str, namespace: str) -> None:
    server, client = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    calls: list[Any] = []

    async def bank_charge(cents: int, *, idempotency_key: str) -> str:
        calls.append((cents, idempotency_key))
        return "r-1"

    async def send_mail(order: Any, key: str) -> None:
        calls.append(key)
        if len(calls) == 2:
            raise OSError("the first attempt fails after the charge")

    names: dict[str, Any] = {"bank_charge": bank_charge, "send_mail": send_mail}
    exec(compile(server, str(PAGE), "exec"), names)
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(names["agent"]):
        names["bus"] = bus
        for _ in range(2):
            await eval(compile(client, str(PAGE), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
        handle = names["handle"]
        assert (await handle.result(timeout_s=10)).number == "r-1"
        assert [handle.created, handle.id] == [False, "pay:o-1"]
    key = calls[0][1]
    assert calls == [(995, key), f"{key}-mail", f"{key}-mail"]

"""The language model of 10-an-agent-that-thinks: a real one if ROOST_MODEL names it, else a small one of our own.

The small one needs no key and no network, and answers the same question in the same way each time. It does what a
language model does in a conversation with tools, only with rules instead of weights: it reads the conversation so far
and the tools that it may use, and either calls tools or answers in words, piece by piece.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

from pydantic_ai.messages import ModelMessage, ToolReturnPart, UserPromptPart
from pydantic_ai.models import Model
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

PIECE_S = 0.01  # between two pieces of an answer
NO_CITY = {"Is", "Are", "How", "What", "Which", "Where", "And", "The", "It", "In"}


def choose_model() -> Model | str:
    """What `pydantic_ai.Agent` takes: the name in ROOST_MODEL, such as openai:gpt-5-mini, or the small model."""
    return os.environ.get("ROOST_MODEL") or FunctionModel(stream_function=speak, model_name="small model")


async def speak(
    messages: list[ModelMessage], info: AgentInfo
) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
    """One turn of the model: tool calls, or the answer word by word."""
    question, known, difference = read(messages)
    tools = {tool.name for tool in info.function_tools}
    cities = [city for city in re.findall(r"\b[A-Z][a-z]+", question) if city not in NO_CITY]
    unknown = [city for city in dict.fromkeys(cities) if city not in known]
    if unknown and "temperature" in tools:
        yield calls("temperature", [{"city": city} for city in unknown])
        return
    if len(known) == 2 and difference is None and "how much" in question and "calculate" in tools:
        warm, cold = sorted(known.values(), reverse=True)
        yield calls("calculate", [{"expression": f"{warm:g} - {cold:g}"}])
        return
    for word in re.findall(r"\S+\s*", answer(known, difference)):
        await asyncio.sleep(PIECE_S)
        yield word


def read(messages: Sequence[ModelMessage]) -> tuple[str, dict[str, float], float | None]:
    """The newest question, and what tools have said since: temperatures by city, a difference."""
    question, known, difference = "", dict[str, float](), None
    asked: dict[str, Any] = {}
    for part in (part for message in messages for part in message.parts):
        if isinstance(part, UserPromptPart):
            question, known, difference = str(part.content), {}, None
        elif part.part_kind == "tool-call":
            asked[part.tool_call_id] = part.args_as_dict()
        elif isinstance(part, ToolReturnPart) and isinstance(part.content, int | float):
            if part.tool_name == "temperature":
                known[asked[part.tool_call_id]["city"]] = part.content
            else:
                difference = part.content
    return question, known, difference


def calls(tool: str, arguments: list[dict[str, str]]) -> dict[int, DeltaToolCall]:
    """Several calls of a tool at once."""
    return {n: DeltaToolCall(name=tool, json_args=json.dumps(one)) for n, one in enumerate(arguments)}


def answer(known: dict[str, float], difference: float | None) -> str:
    """In words."""
    if not known:
        return "I can only compare the temperatures of cities. Please name one or two."
    told = " and ".join(f"{degrees:g} °C in {city}" for city, degrees in known.items())
    if len(known) != 2:
        return f"It is {told}."
    warm, cold = sorted(known, key=lambda city: -known[city])
    if difference is None:
        return f"It is {told}, so it is warmer in {warm}."
    return f"It is warmer in {warm} than in {cold}, by {difference:g} degrees."

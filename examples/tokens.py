"""An answer in pieces, as a language model gives it: over a request, and durably from a task."""

import asyncio
from collections.abc import AsyncIterator

from pydantic import BaseModel

import roost
from roost import Agent, Context, StreamEndpoint, Task


class Question(BaseModel):
    text: str


class Token(BaseModel):
    text: str


class Answer(BaseModel):
    text: str


chat = StreamEndpoint("chat", Question, Token)  # for somebody who listens now
research = Task("research", Question, Answer)  # survives any crash, and readers may come late
model = Agent("model")


async def generate(question: str) -> AsyncIterator[str]:
    for word in f"you asked: {question}".split():
        yield word


@model.handles(chat)
async def talk(question: Question, ctx: Context) -> AsyncIterator[Token]:
    async for word in generate(question.text):
        yield Token(text=word)


@model.handles(research)
async def think(question: Question, ctx: Context) -> Answer:
    words = []
    async for word in generate(question.text):
        await ctx.emit(Token(text=word))
        words.append(word)
    return Answer(text=" ".join(words))


async def main() -> None:
    async with roost.local_server() as url, roost.connect(url) as bus, bus.serving(model):
        async with bus.stream(chat, Question(text="why")) as tokens:
            print("live:", [token.text async for token in tokens])
        handle = await bus.submit(research, Question(text="how"))
        await handle.result()
        print("late:", [chunk.value.text async for chunk in handle.chunks(Token)])


asyncio.run(main())

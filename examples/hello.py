"""An agent that answers requests: server, connection, agent and caller in one process."""

import asyncio

from pydantic import BaseModel

import roost


class Question(BaseModel):
    text: str


class Answer(BaseModel):
    words: int


count = roost.Endpoint("count", Question, Answer)
counter = roost.Agent("counter")


@counter.handles(count)
async def count_words(question: Question) -> Answer:
    return Answer(words=len(question.text.split()))


async def main() -> None:
    async with roost.local_server() as url, roost.connect(url) as bus, bus.serving(counter):
        answer = await bus.request(count, Question(text="how many words are these"))
        print(answer.words)


asyncio.run(main())

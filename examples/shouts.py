"""Durable tasks: a flaky one that is retried, a hopeless one that becomes a dead letter and is replayed."""

import asyncio

from pydantic import BaseModel

import roost
from roost import Agent, Context, Dead, Done, Reject, Retry, Task


class Text(BaseModel):
    text: str


shout = Task("shout", Text, Text, retry=Retry(attempts=3, base_s=0.05))
shouter = Agent("shouter")


@shouter.handles(shout, concurrency=8)
async def shout_it(text: Text, ctx: Context) -> Text:
    if not text.text:
        raise Reject("nothing to shout")
    if text.text == "flaky" and ctx.attempt == 1:
        raise OSError("lost my voice")
    return Text(text=text.text.upper())


async def main() -> None:
    async with roost.local_server() as url, roost.connect(url) as bus, bus.serving(shouter):
        values = [Text(text=text) for text in ("hello", "flaky", "")]
        for handle in await bus.submit_many(shout, values):
            match await handle.outcome():
                case Done(value) as done:
                    print(f"{value.text} after {len(done.history)} attempt(s)")
                case Dead(letter):
                    print(f"dead: {letter.reason}")
                    again = await bus.replay(shout, letter, Text(text="better"))
                    print(f"replayed: {(await again.result()).text}")


asyncio.run(main())

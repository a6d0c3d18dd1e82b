"""Topics: every dashboard hears every status; of the two archivers each status goes to one."""

import asyncio

from pydantic import BaseModel

import roost
from roost import Agent, Context, Topic


class Status(BaseModel):
    load: float


status = Topic("team.{agent}.status", Status)
dashboard, archiver = Agent("dashboard"), Agent("archiver")
archive: asyncio.Queue[Status] = asyncio.Queue()


@dashboard.handles(status, deliver="every")
async def show(message: Status, ctx: Context) -> None:
    print(f"{ctx.parameters['agent']}: {message.load:.0%}")


@archiver.handles(status)
async def keep(message: Status, ctx: Context) -> None:
    archive.put_nowait(message)


async def main() -> None:
    async with (
        roost.local_server() as url,
        roost.connect(url) as bus,
        bus.serving(dashboard, archiver, archiver) as (_, *archivers),
    ):
        for number in range(10):
            await bus.publish(status.at(agent=f"worker{number % 2}"), Status(load=number / 10))
        for _ in range(10):
            await archive.get()
        print(f"archived: 10, by {len(archivers)} archivers")


asyncio.run(main())

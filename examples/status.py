"""Topics: every dashboard hears every status; of the two archivers each status goes to one."""

import asyncio

from pydantic import BaseModel

import roost
from roost import Agent, Context, Topic


class Status(BaseModel):
    load: float


status = Topic("team.{agent}.status", Status)
dashboard, archiver = Agent("dashboard"), Agent("archiver")


@dashboard.handles(status, deliver="every")
async def show(message: Status, ctx: Context) -> None:
    print(f"{ctx.parameters['agent']}: {message.load:.0%}")


@archiver.handles(status)
async def keep(message: Status, ctx: Context) -> None:
    pass


async def main() -> None:
    async with (
        roost.local_server() as url,
        roost.connect(url) as bus,
        bus.serving(dashboard, archiver, archiver) as (_, first, second),
    ):
        for number in range(10):
            await bus.publish(status.at(agent=f"worker{number % 2}"), Status(load=number / 10))
        while first.handled.total() + second.handled.total() < 10:
            await asyncio.sleep(0.01)
        print(f"archived: {first.handled.total() + second.handled.total()}")


asyncio.run(main())

# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Queue groups for load balancing
#
# One worker is too slow, so you start three. Each task should be done by one of them, not by all. After this notebook
# you can share work among any number of workers, add and remove some while it runs, and you know what this kind of sharing
# does not give you.

# %%
import asyncio
import itertools
from collections import Counter
from contextlib import asynccontextmanager

import nats
from lesson import Lesson
from pydantic import BaseModel

import roost

lesson = await Lesson.open(
    "Queue groups", needs={"Ask the server": "trace", "Tasks": "jetstream", "Tasks in Roost": "agents"}
)
s = lesson.subject  # gives the subject to use: on a shared server your prefix comes before it
lesson

# %% [markdown]
# ## Three subscribers
#
# First without a group. Each worker is a connection of its own, as it would be a process of its own elsewhere. What a worker has
# done it puts into the queue `done`, so that we can wait for it.


# %%
# A worker: a connection, a subscription, a handler. Without a group each worker gets every message
async def start_worker(name, done, queue="", work_s=0.0):
    worker = await nats.connect(lesson.url, name=name)

    async def handle(message):
        await asyncio.sleep(work_s)  # the work
        done.put_nowait((name, int(message.data)))

    await worker.subscribe(s("agents.tasks"), queue=queue, cb=handle)
    await worker.flush()
    return worker


async def take(done, count):
    return [await asyncio.wait_for(done.get(), 10) for _ in range(count)]


client = await nats.connect(lesson.url, name="coordinator")
done = asyncio.Queue()
crowd = [await start_worker(f"worker{number}", done) for number in (1, 2, 3)]
for number in range(5):
    await client.publish(s("agents.tasks"), str(number).encode())
handled = await take(done, 15)
print("5 tasks were handled", len(handled), "times:", dict(Counter(name for name, _ in sorted(handled))))
for worker in crowd:
    await worker.close()

# %% [markdown]
# Right for news, wrong for work: each of the five tasks was done three times.
#
# ## A queue group
#
# Subscriptions that give the same group name, in nats-py with `queue=`, form a **queue group**. Of each message the server gives
# one copy to the group, to a member that it chooses at random. Nothing has to be set up before; the group is there as long as it
# has members.

# %%
# Create several workers with the same queue group
done = asyncio.Queue()
names = ("worker1", "worker2", "worker3")
workers = {name: await start_worker(name, done, queue="workers") for name in names}
print("in the group `workers`:", ", ".join(workers))

# %%
# Publish 300 tasks: each worker processes different ones, and each task is processed exactly once
for number in range(300):
    await client.publish(s("agents.tasks"), str(number).encode())
handled = await take(done, 300)

times = Counter(number for _, number in handled)
print("tasks that were handled:      ", len(times))
print("tasks that were handled twice:", sum(count > 1 for count in times.values()))
assert done.empty()
assert sorted(times.elements()) == list(range(300))
for name in workers:
    print(name, "began with", [number for who, number in handled if who == name][:8])

# %% [markdown]
# Who did how many? The choice is random, so the shares are about equal, and different each time.

# %%
# Who did how many
roost.load_picture(
    (name for name, _ in handled), title="300 tasks, three workers in one queue group", unit="tasks"
)

# %% [markdown]
# `bus.explain` ([03-subjects](03-subjects.ipynb)) asks the server who would get a message. It shows the group as the server
# sees it: the message goes to one of three.

# %%
# needs: trace
# The group as the server sees it
async with roost.connect(lesson.url, namespace=lesson.namespace) as bus:
    explained = await bus.explain(s("agents.tasks"))
explained

# %% [markdown]
# ## Adding and removing a worker while it runs
#
# The coordinator publishes 300 tasks, one about every two milliseconds. After the first 100 are done a fourth worker joins.
# After 200, the first worker leaves. It leaves with `drain`: it tells the server that it wants no more, finishes
# what it has, and closes then. Nobody else is told of either.


# %%
# Add a worker, and remove one, while tasks are being published
async def publish(count):
    for number in range(count):
        await client.publish(s("agents.tasks"), str(number).encode())
        await asyncio.sleep(0.002)


publishing = asyncio.create_task(publish(300))
first = await take(done, 100)
workers["worker4"] = await start_worker("worker4", done, queue="workers")
second = await take(done, 100)
await workers.pop("worker1").drain()
third = await take(done, 100)
await publishing

print("each task exactly once:", sorted(number for _, number in first + second + third) == list(range(300)))
for when, part in {"at first": first, "worker4 is there": second, "worker1 is gone": third}.items():
    print(f"{when:17}", dict(Counter(name for name, _ in sorted(part))))
roost.load_picture(
    (name for name, _ in first + second + third), title="worker4 joins, worker1 leaves", unit="tasks"
)

# %% [markdown]
# `worker1` has fewer, since it left, and `worker4` has fewer, since it came later. The three lines of text show
# when; if `worker1` still has one in the last line, that is what it had in hand when it was told to stop.
#
# ## What a queue group does not do
#
# The server deals messages out as they come. It does not look who is busy, and it keeps nothing. So two things go wrong
# when a worker is slow, and then dies. Here a slow worker joins; it needs 50 ms for each task. There are 60 tasks.
# When the others are done with theirs the slow one dies: `close` instead of `drain`.

# %%
# A slow worker gets as many tasks as the others, and what it holds when it dies is lost
done = asyncio.Queue()
for worker in workers.values():
    await worker.drain()
quick = [await start_worker(f"quick{number}", done, queue="workers") for number in (1, 2)]
slow = await start_worker("slow", done, queue="workers", work_s=0.05)
for number in range(60):
    await client.publish(s("agents.tasks"), str(number).encode())
await client.flush()
await slow.flush()  # what is for the slow worker has reached it
for worker in quick:
    await worker.drain()
await slow.close()

counts = Counter(name for name, _ in await take(done, done.qsize()))
lost = 60 - counts.total()
print(f"{lost} of 60 tasks are lost, and nobody was told")
roost.load_picture(
    {name: counts[name] for name in ("quick1", "quick2", "slow")} | {"nobody (lost)": lost},
    title="60 tasks, a slow worker that is killed",
    unit="tasks",
)

# %% [markdown]
# About a third of the tasks were given to the slow worker, more or less by chance, and died with it. For questions and
# news that may be right: one asks again. For work that has to be done it is not.
#
# ## What Roost adds: tasks
#
# A `Task` is work that is stored first (in JetStream, [06-jetstream](06-jetstream.ipynb)) and then taken by workers when they have a hand free.
# Instances of one agent share the tasks as a queue group does. There are two differences: who is slow takes fewer, and what somebody held
# who dies is given to another.
#
# So that the picture can tell the instances apart, each gets a name here, and the first one is slow. The name comes from the
# agent's `lifespan`, which runs once for each instance: what it yields the handler finds in `ctx.deps`. `concurrency=4`
# says that an instance does up to four tasks at a time.


# %%
# An agent that does tasks; the first instance is slow
class Digest(BaseModel):
    page: int
    by: str


digest = roost.Task("digest", int, Digest)
numbers = itertools.count(1)


@asynccontextmanager
async def own_name():
    yield f"instance {next(numbers)}"


digester = roost.Agent("digester", lifespan=own_name)


@digester.handles(digest, concurrency=4)
async def handle(page: int, ctx: roost.Context[str]) -> Digest:
    await asyncio.sleep(0.05 if ctx.deps == "instance 1" else 0.005)  # the work
    return Digest(page=page, by=ctx.deps)


print("the contract:", digest, " the agent:", digester.name)

# %% [markdown]
# Three instances of the agent, and 300 tasks. `submit_many` returns when all are stored; each handle has exactly one result to come.

# %%
# needs: jetstream, agents
# 300 tasks, three instances: who is slow takes fewer
async with roost.connect(lesson.url, namespace=lesson.namespace) as bus:
    async with bus.serving(digester, digester, digester):
        handles = await bus.submit_many(digest, range(300))
        results = await asyncio.gather(*(handle.result() for handle in handles))
print("results:", len(results), " each task once:", sorted(one.page for one in results) == list(range(300)))
roost.load_picture((one.by for one in results), title="300 tasks, instance 1 is slow", unit="tasks")

# %% [markdown]
# Nobody told the server that instance 1 is slow. It has four hands, and asks for another task when one of them is free.
#
# Now instance 4 stays to the end, instance 5 leaves in mid-run, and instance 6 joins. Nobody has to agree with anybody: what
# the one that leaves has begun it finishes, or hands back; what nobody has taken waits in the stream.

# %%
# needs: jetstream, agents
# Add and remove instances while it runs: each task has exactly one result
async with roost.connect(lesson.url, namespace=lesson.namespace) as bus, bus.serving(digester):
    async with bus.serving(digester):  # instance 5 leaves after 100 results
        handles = await bus.submit_many(digest, range(300))
        coming = [asyncio.create_task(handle.result()) for handle in handles]
        for one in itertools.islice(asyncio.as_completed(coming), 100):
            await one
    async with bus.serving(digester):  # instance 6 joins
        results = await asyncio.gather(*coming)
print("results:", len(results), " each task once:", sorted(one.page for one in results) == list(range(300)))
roost.load_picture((one.by for one in results), title="Instance 5 leaves, instance 6 joins", unit="tasks")

# %% [markdown]
# [07-a-team](07-a-team.ipynb) does the same with processes, and kills some of them.
#
# ## Exercises
#
# **1.** Write `async def answer_1(client, subject, handler)`. It subscribes such that each message is handled by
# only one of all the clients that do the same.

# %% tags=["exercise-1", "quiet"]
answer_1 = ...


# %%
# Check of exercise 1: three clients subscribe with it
async def shares(function):
    clients = [await nats.connect(lesson.url) for _ in range(3)]
    got = []

    async def handle(message):
        got.append(message.data)

    try:
        for one in clients:
            await function(one, s("exercise.share"), handle)
            await one.flush()
        for number in range(30):
            await client.publish(s("exercise.share"), str(number).encode())
        await client.flush()
    finally:
        for one in clients:
            await one.drain()
    return len(got) == len(set(got)) == 30 or f"30 messages were handled {len(got)} times."


await lesson.check(1, answer_1, shares)

# %% [markdown]
# **2.** On one subject there are a group `workers` with three members, a group `archive` with two, and one subscription
# without a group. 10 messages are published. How many are delivered in all?

# %% tags=["exercise-2", "quiet"]
answer_2 = ...


# %%
# Check of exercise 2: it is tried out
async def count_them(answer):
    queues = ["workers"] * 3 + ["archive"] * 2 + [""]
    subscriptions = [await client.subscribe(s("exercise.count"), queue=queue) for queue in queues]
    for _ in range(10):
        await client.publish(s("exercise.count"))
    await client.flush()
    delivered = sum(one.pending_msgs for one in subscriptions)
    for one in subscriptions:
        await one.unsubscribe()
    return (
        answer == delivered or "Of each message a group gets one copy, and so does each other subscription."
    )


await lesson.check(2, answer_2, count_them)

# %% [markdown]
# **3.** A worker has messages in hand. Write `async def answer_3(client)`: it ends the worker's connection such that none of
# them is lost.

# %% tags=["exercise-3", "quiet"]
answer_3 = ...


# %%
# Check of exercise 3: a worker with 20 messages is stopped with it
async def stops_in_order(function):
    done = asyncio.Queue()
    worker = await start_worker("exercise", done, queue="exercise", work_s=0.005)
    for number in range(20):
        await client.publish(s("agents.tasks"), str(number).encode())
    await client.flush()
    await worker.flush()
    await function(worker)
    if not worker.is_closed:
        await worker.close()
        return "The worker's connection is still open."
    return done.qsize() == 20 or f"{20 - done.qsize()} of 20 messages were lost."


await lesson.check(3, answer_3, stops_in_order)

# %% [markdown]
# ## What was shown
#
# - A queue group is a name that subscriptions share; each message goes to one of them, chosen at random.
# - Workers come and go at any time. Who leaves with `drain` loses nothing.
# - A queue group does not look who is busy, and what a dead worker held is lost.
# - Tasks in Roost are stored, taken by who has a hand free, and have exactly one result each.

# %%
await client.close()
await lesson.close()

# %% [markdown]
# # Why NATS for agents
#
# NATS is a server that passes messages between programs. Programs connect to it, and send and receive messages under
# names, which are called *subjects*. Five things are said of it where many agents work together: it keeps them
# **decoupled**, it is **scalable**, it is **fast**, it has the **patterns** that agents need, and it is **resilient**.
#
# This notebook takes none of that on trust. Each section measures one of the five. Do not mind the code too much: the
# next notebooks explain each line. Here, look at the numbers.

# %%
import asyncio
import logging
import time
from collections import Counter
from functools import partial

import nats
from lesson import Lesson, chart
from pydantic import BaseModel

import roost
from roost.server import LocalServer

logging.getLogger("roost").addHandler(logging.NullHandler())  # we look at results instead of log lines
lesson = await Lesson.open(
    "Why NATS for agents",
    needs={
        "Patterns: a stream": "jetstream",
        "Resilient": "local servers",
        "What Roost adds": "local servers",
    },
)
s = lesson.subject  # gives the subject to use: on a shared server your prefix comes before it
lesson

# %% [markdown]
# Every agent below is a connection of its own. In this notebook they all live in one process, so that you see
# everything in one place. On the server's side it makes no difference whether they are in one process or on twenty
# machines.

# %%
# An agent: a connection, a subject, and a function that is called for each message
clients = []


async def start_agent(name, subject, work, queue=""):
    client = await nats.connect(lesson.url, name=name)
    clients.append(client)

    async def handler(message):
        await work(name, message)

    await client.subscribe(s(subject), queue=queue, cb=handler)
    await client.flush()  # when this returns, the server knows of the subscription
    return client


planner = await nats.connect(lesson.url, name="planner")
clients.append(planner)
print("the planner is connected:", planner.is_connected)

# %% [markdown]
# ## Decoupled: agents need not know each other
#
# The planner publishes a task. It names a subject; it does not say who shall get it. We run the very same function while
# nobody listens, then one agent, then three.

# %%
# Decoupled: the same planner, with 0, 1 and 3 agents that it knows nothing of
arrived = asyncio.Queue()


async def note(name, message):
    await arrived.put((name, message.data))


async def plan():
    await planner.publish(s("agents.tasks"), b"read chapter 1")
    await planner.flush()


listening = []
for wanted in (0, 1, 3):
    while len(listening) < wanted:
        listening.append(await start_agent(f"reader{len(listening) + 1}", "agents.tasks", note))
    await plan()
    names = sorted([(await asyncio.wait_for(arrived.get(), 5))[0] for _ in listening])
    print(f"{wanted} listening: published 1 message, deliveries: {len(names)}", *names)

# %% [markdown]
# Nothing in `plan` changed, and with nobody listening nothing was raised. The other side of it: the first message is
# gone; whoever comes later has missed it. (Streams, below, are for messages that must wait.)
#
# ## Scalable: agents are added while others run
#
# Two workers share the tasks of one subject: they are in the same *queue group*, so each task goes to one of them. The
# planner publishes task after task. When 300 are done a third worker joins, while the planner goes on until the new one
# has done 150.

# %%
# Scalable: a third worker joins while the planner publishes
published, stop = [], asyncio.Event()


async def publish_tasks():
    while not stop.is_set():
        published.append(b"task %d" % len(published))
        await planner.publish(s("agents.jobs"), published[-1])
        await planner.flush()


for name in ("worker1", "worker2"):
    await start_agent(name, "agents.jobs", note, queue="workers")
publishing = asyncio.create_task(publish_tasks())
tasks = [await asyncio.wait_for(arrived.get(), 10) for _ in range(300)]
await start_agent("worker3", "agents.jobs", note, queue="workers")
while Counter(name for name, _ in tasks)["worker3"] < 150:
    tasks.append(await asyncio.wait_for(arrived.get(), 10))
stop.set()
await publishing
tasks += [await asyncio.wait_for(arrived.get(), 10) for _ in range(len(published) - len(tasks))]
print(
    f"published: {len(published)} tasks; done: {len(tasks)}, all different: {len({task for _, task in tasks}) == len(tasks)}"
)
print("the first 300 were done by", dict(Counter(name for name, _ in sorted(tasks[:300]))))
roost.load_picture(
    [name for name, _ in tasks[300:]], title="Who did the tasks after the first 300", unit="tasks"
)

# %% [markdown]
# Every task was done, none twice. Two workers did about half of the tasks each; with `worker3` it was about a third each.
# Nobody told the planner or the other workers. [05-queue-groups](05-queue-groups.ipynb) also takes workers away.
#
# ## Fast: how long a question takes
#
# One agent asks another and waits for the answer, 1,000 times, one after the other. Each time the question goes from
# the planner to the server and on to the responder, and the answer takes the same way back: four trips in all.

#
# Two numbers sum up the picture: *p50*, the time that half of the requests did not exceed, and *p99*, the time that 99 of
# 100 did not exceed.


# %%
# Fast: 1,000 requests, one at a time
async def answer(name, message):
    await message.respond(b"done")


await start_agent("responder", "agents.ask", answer)
samples_s = []
for _ in range(1000):
    began = time.perf_counter()
    await planner.request(s("agents.ask"), b"are you done?", timeout=5)
    samples_s.append(time.perf_counter() - began)

below = sum(sample < 0.001 for sample in samples_s) / len(samples_s)
p50_ms = sorted(samples_s)[len(samples_s) // 2] * 1000
print(f"p50 is {p50_ms:.2f} ms; {below:.0%} of the requests took less than 1 ms")
roost.latency_picture(samples_s, title="A request and its answer")

# %% [markdown]
# Look at both: a good p50 with a bad p99 means that some wait long. The planner, the responder and the server share one
# machine here, so it gets worse when that is busy. Between machines the network's time comes on top, four times.
#
# ## Patterns: one client, several ways to talk
#
# The first cell sends three messages, each in another way, while three agents listen. Look at how many get each.

# %%
# Patterns: publish/subscribe, queue group, request/reply
ways = {"team.news": "publish/subscribe", "team.jobs": "queue group", "team.questions": "request/reply"}


async def tell(name, message):
    await arrived.put(lesson.bare(message.subject))
    if message.reply:
        await message.respond(b"I can")


for name in ("ann", "bob", "cy"):
    await start_agent(name, "team.news", tell)
    await start_agent(name, "team.jobs", tell, queue="team")
    await start_agent(name, "team.questions", tell, queue="team")

await planner.publish(s("team.news"), b"lunch is ready")
await planner.publish(s("team.jobs"), b"wash up")
reply = await planner.request(s("team.questions"), b"who can help?", timeout=5)
for client in clients:
    await client.flush()  # when these return, everything has arrived that will
got = Counter([await asyncio.wait_for(arrived.get(), 5) for _ in range(5)])
for subject, way in ways.items():
    print(f"{way:18} 1 message was published, {got[subject]} of 3 agents got it")
print("left over:", arrived.qsize(), "messages; the answer to the request:", reply.data.decode())

# %% [markdown]
# The fourth pattern is the *stream*. JetStream, a part of the server, stores what is published on the stream's
# subjects and says so with an acknowledgement. Whoever comes later can read it.

# %%
# needs: jetstream
# Patterns: a stream keeps messages for those who come later
js = planner.jetstream()
await js.add_stream(name=lesson.stream("NEWS"), subjects=[s("news.>")])
for number in range(1, 6):
    stored = await js.publish(s("news.today"), b"news %d" % number)
print("published 5, the server stored the last one as number", stored.seq)

late = await js.subscribe(s("news.>"), ordered_consumer=True)  # comes when all is over
for _ in range(5):
    message = await late.next_msg(timeout=5)
    print("a late reader gets", message.data.decode())
await late.unsubscribe()
print("the stream is removed:", await js.delete_stream(lesson.stream("NEWS")))

# %% [markdown]
# ## Resilient: a server is killed in the middle of work
#
# A stream on a server of our own, since we are going to kill it. The publisher stores 400 orders. It takes an order
# for stored when the server has acknowledged it, and repeats it until then, each time with the same `Nats-Msg-Id`, so
# that the server can tell a repetition. After the 200th order the server gets SIGKILL: it cannot save anything any
# more. Then it is started again on its files.

# %%
# needs: local servers
# Resilient: a server, a stream, and a publisher that notes what happens to it
server = await asyncio.to_thread(LocalServer().start)
events, began = [], time.perf_counter()


async def happened(text):
    events.append((time.perf_counter() - began, text))


async def ignore(error):
    """Without it the client logs each failed try to connect."""


publisher = await nats.connect(
    server.url,
    disconnected_cb=partial(happened, "the publisher has lost its connection"),
    reconnected_cb=partial(happened, "the publisher is connected again, by itself"),
    error_cb=ignore,
    reconnect_time_wait=0.1,
)
orders = publisher.jetstream(timeout=0.5)
await orders.add_stream(name="ORDERS", subjects=["orders"])
print("one server, one stream, nothing in it yet")

# %% [markdown]
# One task of `asyncio` stores the orders, while the cell kills the server and starts it again. Read the times.

# %%
# needs: local servers
# Resilient: 400 orders, a SIGKILL after the 200th
acknowledged, repeated, kill_now = {}, [], asyncio.Event()


async def store_orders():
    for number in range(1, 401):
        if number == 201:
            kill_now.set()
        while number not in acknowledged:
            try:
                stored = await orders.publish("orders", b"%d" % number, headers={"Nats-Msg-Id": str(number)})
                acknowledged[number] = (stored.seq, time.perf_counter() - began)
            except (nats.errors.Error, TimeoutError):
                repeated.append(number)


storing = asyncio.create_task(store_orders())
await kill_now.wait()
await happened("the server is killed")
await asyncio.to_thread(server.kill)
before = dict(acknowledged)
await asyncio.to_thread(server.restart)
await happened("the server runs again")
await asyncio.wait_for(storing, 20)
await happened(f"all {len(acknowledged)} orders are acknowledged; repeated: {len(repeated)}")
print(*(f"{at_s:5.2f} s  {text}" for at_s, text in events), sep="\n")

# %% [markdown]
# The publisher connected again by itself, repeated an order if its acknowledgement was missing, and went on. Now the count:
# is each acknowledged order in the stream, at the place that the acknowledgement named? And is any there twice?

# %%
# needs: local servers
# Resilient: what was acknowledged is there
reader = await orders.pull_subscribe("orders")
found = []
while len(found) < len(acknowledged):
    found += await reader.fetch(100, timeout=5)
at = {message.metadata.sequence.stream: int(message.data) for message in found}
kept = sum(at.get(place) == number for number, (place, _) in before.items())
print(f"acknowledged before the kill: {len(before)}, of these in the stream afterwards: {kept}")
total = (await orders.stream_info("ORDERS")).state.messages
print(f"in the stream: {total} messages, {len(set(at.values()))} different orders")
await publisher.close()
await asyncio.to_thread(server.stop)

# %% [markdown]
# The picture shows what the publisher saw. The line of acknowledged orders stands still until the publisher is connected
# again. If an order under way got no answer it stands still longer: the publisher waits for half a second, its
# timeout, before it repeats that order.

# %%
# needs: local servers
# Resilient: acknowledged orders over time
import matplotlib.pyplot as plt

killed_s = next(at_s for at_s, text in events if "is killed" in text)
runs_s = next(at_s for at_s, text in events if "runs again" in text)
figure, axes = plt.subplots(figsize=(8, 2.8), layout="constrained")
axes.step([at_s for _, at_s in acknowledged.values()], sorted(acknowledged), where="post", color="#2563eb")
axes.axvspan(killed_s, runs_s, color="#dc2626", alpha=0.25, label="no server")
axes.set(xlabel="seconds", ylabel="orders acknowledged", xlim=0, ylim=0)
axes.legend(loc="lower right")
chart(
    figure, f"Acknowledged orders: the number grows, stands still from {killed_s:.2f} s, and goes on to 400"
)

# %% [markdown]
# A server that is killed and comes back loses no acknowledged message. (A power cut is another matter: by default the
# server has the disk make its writes lasting only every two minutes; `sync_interval: always` is the remedy.)
# [06-jetstream](06-jetstream.ipynb) shows three servers, of which one is lost while the others go on.
#
# ## What Roost adds
#
# All of this can be built on the plain client, and you have seen how much code the last section took: waiting for
# acknowledgements, ids against duplicates, errors to catch, loops to repeat. Roost has it ready for agents. Below are
# 24 tasks with typed messages, two instances of an agent, which do two tasks at a time each, and again a server that is
# killed in mid-work.


# %%
# needs: local servers
# Roost: tasks with a result each, while the server is killed
class Page(BaseModel):
    text: str


class Digest(BaseModel):
    words: int


digest = roost.Task("digest", Page, Digest)
agent = roost.Agent("digester")
calls = asyncio.Queue()


@agent.handles(digest, concurrency=2)
async def count(page: Page) -> Digest:
    await asyncio.sleep(0.03)  # stands for work
    await calls.put(page)
    return Digest(words=len(page.text.split()))


print("the contract:", digest, " the agent:", agent.name)

# %%
# needs: local servers
# Roost: what became of the tasks
with LocalServer() as server:
    async with roost.connect(server.url) as bus, bus.serving(agent, agent):
        handles = await bus.submit_many(digest, [Page(text="word " * number) for number in range(1, 25)])
        for _ in range(8):
            await asyncio.wait_for(calls.get(), 10)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.restart)
        results = [(await handle.result(timeout_s=30)).words for handle in handles]
        picture = await roost.timeline(bus, handles)
print("results:", *results)
picture

# %% [markdown]
# Every task has one result. Each lane of the picture is an instance; in the gap there was no server, or no connection to it
# yet. What was being worked on when it was killed is not lost either: the work goes on, and its outcome is recorded when
# the server is back.
#
# ## Exercises
#
# **1.** On one subject listen 3 plain subscribers and 4 workers in one queue group. Ten messages are published. How many
# deliveries are there in all? Give the number.

# %% tags=["exercise-1", "quiet"]
answer_1 = ...


# %%
# Check of exercise 1: it is tried out
async def count_deliveries(number):
    groups = [""] * 3 + ["workers"] * 4
    subscriptions = [await planner.subscribe(s("exercise.one"), queue=group) for group in groups]
    for _ in range(10):
        await planner.publish(s("exercise.one"), b"")
    await planner.flush()
    came = sum(one.pending_msgs for one in subscriptions)
    for one in subscriptions:
        await one.unsubscribe()
    return number == came or "A plain subscriber gets each message; of a queue group one member does."


await lesson.check(1, answer_1, count_deliveries)

# %% [markdown]
# **2.** Nobody can tell whether a call that timed out was stored, so it has to be repeated. Write
# `async def answer_2(js, subject, number)`, which publishes `number` (as text) to a stream's subject, such that it does
# no harm to call it twice with the same number.

# %% tags=["exercise-2", "quiet"]
answer_2 = ...


# %%
# needs: jetstream
# Check of exercise 2: numbers 7, 7 and 8 are published
async def publish_twice(publish):
    name = lesson.stream("EXERCISE")
    await js.add_stream(name=name, subjects=[s("exercise.two")])
    try:
        for number in (7, 7, 8):
            await publish(js, s("exercise.two"), number)
        stored = (await js.stream_info(name)).state.messages
    finally:
        await js.delete_stream(name)
    if stored == 3:
        return "7 was stored twice. Look at the header with which the orders were published."
    return stored == 2 or f"Messages in the stream: {stored}. There should be two, 7 and 8."


await lesson.check(2, answer_2, publish_twice)

# %% [markdown]
# Next: [01-connect](01-connect.ipynb).

# %%
for client in clients:
    await client.close()
await lesson.close()

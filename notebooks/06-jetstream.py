# %% [markdown]
# # JetStream: messages that are kept
#
# A message of plain NATS goes to whoever listens in that moment, and is gone. JetStream is the part of the same server
# that **stores** messages. After this notebook you can store tasks, take them one by one so that a crash loses none,
# read old messages again, keep totals over a stream, and say what happens when one of three servers dies.

# %%
import asyncio
import logging
import subprocess
import sys
import time

import nats
from lesson import Lesson
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

import roost
from roost.server import LocalCluster

logging.getLogger("roost").addHandler(logging.NullHandler())  # we look at results instead of log lines
lesson = await Lesson.open(
    "JetStream",
    needs={
        "Streams, consumers, replay": "jetstream",
        "Failover": "local servers",
        "What Roost adds": "agents",
    },
)
s = lesson.subject  # gives the subject to use: on a shared server your prefix comes before it
lesson

# %% [markdown]
# ## JetStream: Persistent Messaging
#
# A **stream** is a list of messages on the server's disk. It has a name, and the subjects whose messages it keeps.
# Nothing changes for those who publish. The JetStream context `js` is the same connection with the calls for streams.

# %%
# needs: jetstream
# JetStream context, and a stream for agent tasks
nc = await nats.connect(lesson.url)
js = nc.jetstream()

TASKS = lesson.stream("AGENT_TASKS")  # the name; on a shared server your prefix comes before it
info = await js.add_stream(name=TASKS, subjects=[s("agents.tasks.>")])

print(f"stream     {info.config.name}")
print(f"keeps      {', '.join(lesson.bare(one) for one in info.config.subjects)}")
print(f"messages   {info.state.messages}, kept in a {info.config.storage}")

# %% [markdown]
# ### Publish, and know that it is stored
#
# `js.publish` waits for the server's **acknowledgement**: "stored, as number *n*". If none comes in time, you do not know
# whether the message is stored, so you publish again. The header `Nats-Msg-Id` makes that safe: of messages with the
# same id within two minutes the server keeps one. Look at the last two lines.

# %%
# needs: jetstream
# Publish messages to the stream, with acknowledgement
for name in ["plan", "search", "read", "draft", "review"]:
    subject, text = s(f"agents.tasks.{name}"), f"please {name}"
    ack = await js.publish(subject, text.encode(), headers={"Nats-Msg-Id": name})
    print(f"{name:<8} stored as number {ack.seq}")

again = await js.publish(s("agents.tasks.plan"), b"please plan", headers={"Nats-Msg-Id": "plan"})
print(f"{'plan':<8} again: number {again.seq}, duplicate: {again.duplicate}")
try:
    await js.publish(s("agents.elsewhere"), b"hello", timeout=1)
except nats.js.errors.NoStreamResponseError:
    print("agents.elsewhere: no stream keeps this subject, so nothing was stored")

# %% [markdown]
# The repeated message was recognised. And a subject that no stream keeps is an error at once, not a silent loss.
#
# ### A durable consumer, and explicit acknowledgement
#
# A **consumer** is the server's memory of who has read how far. This one is *durable*: it has a name and stays when
# nobody is connected, and all workers that use the name share the work. The worker asks for messages (`fetch`) and
# says of each "done" (`ack`; `ack_sync` also waits until the server has taken note). The five messages below were
# stored **before** the consumer existed.

# %%
# needs: jetstream
# Create a durable consumer; consume messages with acknowledgement
ACK_WAIT_S = 0.5
WORKERS = lesson.stream("workers")
workers = await js.pull_subscribe(
    s("agents.tasks.>"),
    durable=WORKERS,
    stream=TASKS,
    config=ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, ack_wait=ACK_WAIT_S),
)

for message in await workers.fetch(2, timeout=1):
    await message.ack_sync()
    print(f"done: {message.data.decode():<14} (number {message.metadata.sequence.stream})")

info = await workers.consumer_info()
print(f"acknowledged up to number {info.ack_floor.stream_seq}, {info.num_pending} still to come")

# %% [markdown]
# The messages waited for the worker, and the server remembers which two are done.
#
# ### What a crash before the ack does
#
# Here is a worker in a process of its own. It takes the next message and dies in the middle of the work, without a
# word to the server. The server gave the message out and waits for its ack for `ack_wait`, here half a second (30 s if
# you say nothing). Then it gives the message to the next worker that asks.

# %%
# needs: jetstream
# A crash before the ack: the message comes again
doomed = """
import asyncio, os, sys, nats

async def main(url, stream, consumer):
    js = (await nats.connect(url)).jetstream()
    sub = await js.pull_subscribe_bind(consumer, stream)
    [message] = await sub.fetch(1)
    print("the first worker has:", message.data.decode(), flush=True)
    os.kill(os.getpid(), 9)

asyncio.run(main(*sys.argv[1:]))
"""
command = [sys.executable, "-c", doomed, lesson.url, TASKS, WORKERS]
process = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
print(process.stdout.strip(), "... and was killed" if process.returncode == -9 else process.stderr)

seen = []
while "please read" not in seen:
    [message] = await workers.fetch(1, timeout=5)
    await message.ack_sync()
    seen.append(message.data.decode())
    print(f"the next worker has: {seen[-1]}, delivery {message.metadata.num_delivered}")

# %% [markdown]
# The task was not lost: it was delivered a second time. That is *at least once*: a worker that dies **after** the work
# and before the ack does the work twice. So a handler has to bear being run again.
#
# ### Replay
#
# Reading removes nothing from this stream; it keeps all, unless it is given a limit such as `max_age` or `max_bytes`.
# Another consumer can read the same messages again, and says where it begins: with the first one, with a number, or
# with a time.


# %%
# needs: jetstream
# Message replay: from the start, from a sequence, from a time
async def replay(**begin):
    """A consumer of its own that needs no acks, and what it reads."""
    config = ConsumerConfig(ack_policy=AckPolicy.NONE, **begin)
    reader = await js.pull_subscribe(s("agents.tasks.>"), stream=TASKS, config=config)
    there = (await reader.consumer_info()).num_pending
    read = await reader.fetch(there, timeout=2) if there else []
    return [one.data.decode().removeprefix("please ") for one in read]


third = await js.get_msg(TASKS, seq=3)
start = DeliverPolicy
print("from the start     ", await replay(deliver_policy=start.ALL))
print("from number 4      ", await replay(deliver_policy=start.BY_START_SEQUENCE, opt_start_seq=4))
print("from the time of 3 ", await replay(deliver_policy=start.BY_START_TIME, opt_start_time=third.time))

# %% [markdown]
# Nobody had to prepare for that when the messages were sent. A new agent can read the whole past, and one with a
# mended bug can read it again.
#
# ## Stream processing
#
# Agents report how many tokens they used. A processor **consumes** these events, **aggregates** them for each agent,
# and **publishes on**: a second stream that keeps only the newest total of each agent. It keeps nothing in its own
# memory, so it may die at any time.

# %%
# needs: jetstream
# Stream processing: events come in
EVENTS, TOTALS = lesson.stream("EVENTS"), lesson.stream("TOTALS")
await js.add_stream(name=EVENTS, subjects=[s("agents.events.*")])
await js.add_stream(name=TOTALS, subjects=[s("agents.totals.*")], max_msgs_per_subject=1)
used = "planner 400, writer 900, critic 250, writer 1100, planner 150, writer 700".split(", ")
for one in used:
    name, tokens = one.split()
    ack = await js.publish(s(f"agents.events.{name}"), tokens.encode())
print(f"{ack.seq} events stored")

# %% [markdown]
# Each new total carries the number of its event as `Nats-Msg-Id`. The processor below "dies" once between publishing a
# total and the ack, so that event comes a second time. Watch that it does not count twice.


# %%
# needs: jetstream
# Stream processing: consume, aggregate, publish on
async def add(event):
    """Adds one event to the total of its agent; True if it was counted before."""
    to = event.subject.replace("agents.events.", "agents.totals.")
    try:
        total = int((await js.get_last_msg(TOTALS, to)).data)
    except nats.js.errors.NotFoundError:
        total = 0
    new, number = str(total + int(event.data)).encode(), str(event.metadata.sequence.stream)
    return bool((await js.publish(to, new, headers={"Nats-Msg-Id": number})).duplicate)


name, config = lesson.stream("adder"), ConsumerConfig(ack_wait=ACK_WAIT_S)
adder = await js.pull_subscribe(s("agents.events.*"), durable=name, stream=EVENTS, config=config)
while (await adder.consumer_info()).ack_floor.stream_seq < len(used):
    [event] = await adder.fetch(1, timeout=5)
    number, times = event.metadata.sequence.stream, event.metadata.num_delivered
    known = await add(event)
    print(f"event {number}, delivery {times}: {'was counted before' if known else 'added'}")
    if number == 4 and times == 1:
        print("         here the processor dies before the ack")
    else:
        await event.ack_sync()

# %%
# needs: jetstream
# What the stream of totals holds: one message for each agent
stored = (await js.stream_info(TOTALS, subjects_filter=">")).state.subjects
totals = {one.rpartition(".")[2]: int((await js.get_last_msg(TOTALS, one)).data) for one in sorted(stored)}
roost.load_picture(totals, title="Tokens by agent", unit="tokens")

# %% [markdown]
# 900, 1100 and 700 are 2700: event 4 counted once, although it was worked on twice. This holds for one processor, and
# as long as the server remembers the ids. [Notebook 09](09-good-practice.ipynb) has more on work that is done twice.
#
# ## Failover: three servers, and the leader is killed
#
# One server is one disk and one process. Three servers keep **three copies** of a stream. One of them leads; it
# acknowledges a message when most of the three have it. `roost server --cluster 3` starts such servers in a terminal;
# here they are started from Python, on this machine, only for this section.


# %%
# needs: local servers
# Failover: a cluster of three, a stream with three copies
async def ignore(error):
    """Without it the client logs each failed try to reconnect."""


cluster = await asyncio.to_thread(LocalCluster(3).start)
again = {"reconnect_time_wait": 0.1, "max_reconnect_attempts": -1, "error_cb": ignore}
far = await nats.connect(list(cluster.urls), **again)
safe = far.jetstream(timeout=1)
await safe.add_stream(name="SAFE", subjects=["safe.>"], num_replicas=3)
acknowledged = []
for number in range(1, 101):
    await safe.publish("safe.tasks", str(number).encode(), headers={"Nats-Msg-Id": str(number)})
    acknowledged.append(number)

leader = await asyncio.to_thread(cluster.leader_of, "SAFE")
print(f"{len(cluster.urls)} servers run, the stream's leader is server {leader}")
print(f"{len(acknowledged)} messages acknowledged")

# %% [markdown]
# Now the leader gets a SIGKILL, and the publisher goes on. The other two wait until they have missed the leader for
# some seconds and then **elect** a new one; the election takes 1 to 9 seconds. Meanwhile nothing is acknowledged. The
# publisher repeats what has no acknowledgement, with the same `Nats-Msg-Id`.

# %%
# needs: local servers
# Failover: the leader is killed while a publisher works
await asyncio.to_thread(cluster.kill, leader)
killed, failures, gap_s = time.monotonic(), 0, 0.0
for number in range(101, 201):
    while True:
        try:
            await safe.publish("safe.tasks", str(number).encode(), headers={"Nats-Msg-Id": str(number)})
            break
        except (nats.errors.Error, nats.js.errors.Error):
            failures += 1
            await asyncio.sleep(0.1)
    acknowledged.append(number)
    gap_s = gap_s or time.monotonic() - killed

print(f"server {leader} was killed; {failures} tries had no acknowledgement")
print(f"the first one that had came {gap_s:.1f} s after the kill")
print(f"now server {await asyncio.to_thread(cluster.leader_of, 'SAFE')} leads")

# %% [markdown]
# The pause is the election. The tries before it failed with an error, none with a false "stored". Now compare what was
# acknowledged with what is there.

# %%
# needs: local servers
# Failover: nothing acknowledged is lost, and nothing is there twice
count = (await safe.stream_info("SAFE")).state.messages
stored = [int((await safe.get_msg("SAFE", seq=number)).data) for number in range(1, count + 1)]

print(f"acknowledged {len(acknowledged)}, stored {len(stored)}")
print(f"lost:  {sorted(set(acknowledged) - set(stored)) or 'none'}")
print(f"twice: {sorted({one for one in stored if stored.count(one) > 1}) or 'none'}")
await far.close()
await asyncio.to_thread(cluster.stop)

# %% [markdown]
# Nothing acknowledged is lost, because most of the servers had it, and the new leader is one of those that had all.
# Two of three servers are enough; with one alone, nothing would be acknowledged.
#
# ## What Roost adds: a durable task
#
# You have now seen what a reliable worker needs: a stream, a consumer, the ack after the work, a message id, and a
# place for the result. `roost.Task` is that in one line. What it adds is the **outcome**: each task gets exactly one,
# stored beside it, whoever asks and whenever. There is no ack to forget: the handler returns, or raises and is run
# again. Below, a task is submitted before there is a worker, and its handler raises the first time. See what becomes of it.

# %%
# needs: jetstream, agents
# Roost: a durable task and its outcome
digest = roost.Task("digest", str, int, retry=roost.Retry(base_s=0.1))
agent = roost.Agent("digester")


@agent.handles(digest)
async def count_words(text: str, ctx: roost.Context) -> int:
    await asyncio.sleep(0.05)
    if ctx.attempt == 1:
        raise ConnectionError("the model does not answer")
    return len(text.split())


async with roost.connect(lesson.url, namespace=lesson.namespace) as bus:
    handle = await bus.submit(digest, "to be or not to be", key="page-1")
    print("stored; no worker is there yet")
    async with bus.serving(agent):
        outcome = await handle.outcome(timeout_s=10)
    print(f"outcome: {type(outcome).__name__}, {outcome.value} words")
    again = await bus.submit(digest, "to be or not to be", key="page-1")
    print(f"submitted again, new: {again.created}, result: {await again.result()}")
    picture = await roost.timeline(bus, handle)
picture

# %% [markdown]
# The task waited for a worker, its first attempt failed, the second was done, and submitting it again under the same
# key found the outcome that was there. [Notebook 08](08-when-things-fail.ipynb) shows what becomes of tasks that keep
# failing.
#
# ## Exercises
#
# **1.** A dashboard wants only the **newest** message of each subject, not all of them. With which `deliver_policy` does a
# consumer read those? Type `DeliverPolicy.` and press Tab to see which there are.

# %% tags=["exercise-1", "quiet"]
answer_1 = ...


# %%
# needs: jetstream
# Check of exercise 1: one task is published again, and the stream is read with it
async def check_1(answer):
    await js.publish(s("agents.tasks.draft"), b"please draft again")
    got = await replay(deliver_policy=answer)
    if "draft again" not in got:
        return f"The newest message of agents.tasks.draft is not among what came: {got}."
    if "draft" in got:
        return f"An older message of agents.tasks.draft came too: {got}."
    return set(got) == {"plan", "search", "read", "review", "draft again"} or f"Only this came: {got}."


await lesson.check(1, answer_1, check_1)

# %% [markdown]
# **2.** Write what a worker does with one message: `await work(message.data)`, and acknowledge so that a crash in
# `work` does not lose the task. If `work` raises, ask the server for the message again (`nak`) and do not raise.

# %% tags=["exercise-2", "quiet"]
# async def answer_2(message, work):
answer_2 = ...


# %%
# needs: jetstream
# Check of exercise 2: a task is worked on twice, and the first time `work` raises
async def check_2(answer):
    name, subject, calls = lesson.stream("EXERCISE_2"), s("exercise.2"), []

    async def work(data):
        calls.append((await sub.consumer_info()).num_ack_pending)
        if len(calls) == 1:
            raise RuntimeError("crash in the middle of the work")

    await js.add_stream(name=name, subjects=[subject])
    try:
        await js.publish(subject, b"a task")
        sub = await js.pull_subscribe(subject, durable=name, stream=name, config=ConsumerConfig(ack_wait=1))
        for _ in range(2):
            [message] = await sub.fetch(1, timeout=0.8)
            await answer(message, work)
        if calls != [1, 1]:
            return "The message was acknowledged before its work was done, or `work` was not called."
        for _ in range(20):  # an ack needs a moment
            if (await sub.consumer_info()).num_ack_pending == 0:
                return True
            await asyncio.sleep(0.05)
        return "The work was done, and the server still waits for its ack."
    except RuntimeError:
        return "The error of `work` came out of your function: catch it there."
    except TimeoutError:
        return "After a crash in `work` the message did not come again: ack only what is done, nak the rest."
    finally:
        await js.delete_stream(name)


await lesson.check(2, answer_2, check_2)

# %% [markdown]
# **3.** A stream has five copies on five servers. How many of the servers may die at once, so that it still takes
# messages?

# %% tags=["exercise-3", "quiet"]
answer_3 = ...


# %%
# Check of exercise 3: who is left?
def check_3(answer):
    if not isinstance(answer, int):
        return "A number is wanted."
    left = 5 - answer
    if left <= 5 // 2:
        return f"Then {left} of 5 are left. Is that more than half?"
    return left == 3 or f"Then {left} of 5 are left. Could one more die?"


await lesson.check(3, answer_3, check_3)

# %% [markdown]
# ## Tidy up

# %%
if lesson.has("jetstream"):
    await nc.close()
await lesson.close()

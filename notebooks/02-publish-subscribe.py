# %% [markdown]
# # Publish and subscribe
#
# After this notebook you can send messages to whoever listens, listen with a function of your own, say what a late
# subscriber misses and what becomes of a message whose handler fails, and leave nothing behind.

# %%
import asyncio
import json
import logging

import nats
from lesson import Lesson
from pydantic import BaseModel

import roost

logging.getLogger("roost").addHandler(logging.NullHandler())  # we look at counters instead of log lines
lesson = await Lesson.open("Publish and subscribe", needs={"What Roost adds": "agents"})
s = lesson.subject  # gives the subject to use: on a shared server your prefix comes before it
lesson

# %% [markdown]
# ## Publish/Subscribe Pattern
#
# A message is some bytes that are published on a *subject*, a name such as `agents.tasks`. The server passes it on to
# everyone who has subscribed to that subject at this moment. The publisher does not know who that is.
#
# What to do with a message is said by a *handler*, an async function that the client calls for each message, one after
# the other. This one puts subject and text into a queue, so that the cells below can wait for them. (`lesson.bare` takes
# the prefix off again that `s` puts before a subject on a shared server.)

# %%
# Define the message handler
received = asyncio.Queue()


async def handler(message):
    await received.put((lesson.bare(message.subject), message.data.decode()))


print("a handler gets a message: its .subject and its .data, which are bytes")

# %% [markdown]
# The subscriber is an agent with a connection of its own. `subscribe` sends the wish to the server, and `flush` waits
# until the server has it. Without `flush` somebody else's message could come before the server knows of us.


# %%
# Define the async subscriber function, and subscribe to agents.tasks
async def subscriber(name, handler):
    client = await nats.connect(lesson.url, name=name)
    subscription = await client.subscribe(s("agents.tasks"), cb=handler)
    await client.flush()
    return client, subscription


worker, subscription = await subscriber("worker", handler)
print("the worker listens to", lesson.bare(subscription.subject))

# %% [markdown]
# Another agent, the planner, publishes three tasks. Text becomes bytes with `encode`.

# %%
# Publish messages to agents.tasks, and display what was received
planner = await nats.connect(lesson.url, name="planner")
for text in ("read chapter 1", "read chapter 2", "write a summary"):
    await planner.publish(s("agents.tasks"), text.encode())
print("published 3")
for _ in range(3):
    subject, text = await asyncio.wait_for(received.get(), 5)
    print(f"received on {subject}: {text}")

# %% [markdown]
# They came in the order in which they were published: NATS keeps the order of the messages of one publisher on one
# subject.
#
# ## Everybody gets a copy
#
# Two more agents subscribe to the same subject, and one message is published. Each handler notes that it was called; the
# picture has a dot for each of these notes. ("Not checked" there: the server was not asked. The next notebook asks it.)

# %%
# One message, three subscribers
copies = asyncio.Queue()


def called(name):
    async def handler(message):
        await copies.put((message.subject, name))

    return handler


logger, logs = await subscriber("logger", called("logger"))
critic, _ = await subscriber("critic", called("critic"))
await planner.publish(s("agents.tasks"), b"translate the summary")
arrived = [await asyncio.wait_for(copies.get(), 5) for _ in range(2)]
await asyncio.wait_for(received.get(), 5)  # the worker still has the handler from above
arrived.append((s("agents.tasks"), "worker"))
patterns = dict.fromkeys(("worker", "logger", "critic"), s("agents.tasks"))
roost.delivery_matrix(patterns, [s("agents.tasks")], arrived, title="One message, three copies")

# %% [markdown]
# Each subscriber has a copy of its own. (Workers that *share* the tasks are a queue group:
# [05-queue-groups](05-queue-groups.ipynb).)
#
# ## What a late subscriber misses
#
# Six tasks are published. One subscriber is there from the beginning, another comes after the third task.

# %%
# A late subscriber
early = await worker.subscribe(s("agents.numbers"))  # no handler: messages wait for next_msg()
await worker.flush()
for number in range(1, 7):
    await planner.publish(s("agents.numbers"), str(number).encode())
    if number == 3:
        await planner.flush()
        late = await critic.subscribe(s("agents.numbers"))
        await critic.flush()
await planner.flush()

print("task              1 2 3 4 5 6")
for name, one in (("early", early), ("late", late)):
    numbers = []
    while not numbers or numbers[-1] != "6":
        numbers.append((await one.next_msg(timeout=5)).data.decode())
    print(f"{name:6} received  " + " ".join(n if n in numbers else "-" for n in "123456"))
    await one.unsubscribe()

# %% [markdown]
# The late one missed the first three, and nothing told it. The server does not keep messages: it passes them on, or
# nobody gets them. That is "at most once". It is what one wants for "I am at 40 %", and not for a task that has to be
# done. For those there are streams ([06-jetstream](06-jetstream.ipynb)), which keep messages.
#
# The publisher hears nothing of it either:

# %%
# Nobody listens: no error
await planner.publish(s("agents.nobody.listens"), b"hello?")
await planner.flush()
print("published to nobody, no error")

# %% [markdown]
# ## When a handler fails
#
# Tasks are rarely bare text. Here they are JSON, and the second one is broken. `error_cb` is the function that a client
# calls with what went wrong in its handlers.

# %%
# A handler that raises
failed, names = asyncio.Queue(), asyncio.Queue()


async def on_error(error):
    await failed.put(error)


async def read_json(message):
    task = json.loads(message.data)
    await names.put(task["name"])


careful = await nats.connect(lesson.url, name="careful", error_cb=on_error)
await careful.subscribe(s("agents.json"), cb=read_json)
await careful.flush()
for text in ('{"name": "read"}', '{"name": ', '{"name": "write"}'):
    await planner.publish(s("agents.json"), text.encode())
print("handled:", await asyncio.wait_for(names.get(), 5), "and", await asyncio.wait_for(names.get(), 5))
print("error_cb:", await asyncio.wait_for(failed.get(), 5))

# %% [markdown]
# The subscription goes on with the next message, which is good. The broken message is gone, and the planner that sent it
# never learns of it. Without an `error_cb` of yours the client writes the error to the log.
#
# ## Clean up
#
# `unsubscribe` ends one subscription; the connection stays. `drain` ends the connection once all that has arrived is
# handled.

# %%
# Clean up: end a subscription, close the connections
await logs.unsubscribe()
await logger.flush()
await planner.publish(s("agents.tasks"), b"one more")
_, name = await asyncio.wait_for(copies.get(), 5)
await logger.flush()
print(f"the {name} got it; somebody else:", not copies.empty())

for client in (worker, logger, critic, careful):
    await client.drain()
print("closed:", all(client.is_closed for client in (worker, logger, critic, careful)))

# %% [markdown]
# ## What Roost adds
#
# Two things were tedious: to turn data into bytes and back, on both sides in the same way, and to notice what is
# broken. In Roost a `Topic` is a subject together with a model of its messages. Publisher and agents share that one
# line, the *contract*. A handler gets a checked object.


# %%
# Roost: a topic with a typed message, and an agent
class Assignment(BaseModel):
    name: str
    priority: int = 0


assignments = roost.Topic(s("agents.assignments"), Assignment)
reader = roost.Agent("reader")
taken = asyncio.Queue()


@reader.handles(assignments)
async def take(assignment: Assignment) -> None:
    await taken.put(assignment)


print("topic:", lesson.bare(assignments.subject), "with the fields", *Assignment.model_fields)

# %% [markdown]
# The agent runs for the length of the `async with`. Three messages are sent: a right one, a wrong one through Roost, and
# a wrong one past Roost, by the plain client, as another program might do.

# %%
# needs: agents
# Roost: a message that fits, and two that do not
async with roost.connect(lesson.url, namespace=lesson.namespace) as bus, bus.serving(reader):
    await bus.publish(assignments, Assignment(name="read chapter 1", priority=5))
    print("taken:", await asyncio.wait_for(taken.get(), 5))
    try:
        await bus.publish(assignments, "read chapter 2")
    except roost.InvalidMessage as error:
        print("not sent:", str(error).replace(s(""), ""))  # without your prefix

    refused = asyncio.Queue()
    bus.watch(refused.put_nowait)
    await planner.publish(s("agents.assignments"), b'{"name": "read", "priority": "soon"}')
    event = await asyncio.wait_for(refused.get(), 5)
    print(f"{event.kind}:", event.reason.replace(s(""), ""))
    print("counted:", bus.counters["message_refused"], "messages refused")

# %% [markdown]
# The first mistake is raised where it was made, and nothing was sent. The second never reached the handler, and the
# agent goes on. Both are counted, with an event (and a line in the log), so neither is dropped in silence. A topic is
# still "at most once"; work that must be done is a `Task` ([06-jetstream](06-jetstream.ipynb)).
#
# ## Exercises
#
# **1.** Tasks come as JSON, such as `{"name": "call ann", "priority": 7}`. Write a handler `async def answer_1(message)`
# that appends the names of those with priority 5 or more to the list `urgent`.

# %% tags=["exercise-1", "quiet"]
urgent = []
answer_1 = ...


# %%
# Check of exercise 1: four tasks are published to your handler
async def picks_urgent(handler):
    urgent.clear()
    failed, end = [], asyncio.Event()

    async def watched(message):
        try:
            await handler(message)
        except Exception as error:
            failed.append(f"Your handler raised {type(error).__name__}: {error}")
        if b"last" in message.data:
            end.set()

    inbox = await planner.subscribe(s("exercise.one"), cb=watched)
    for name, priority in (("sweep", 1), ("call ann", 7), ("mail bob", 5), ("last", 4)):
        await planner.publish(s("exercise.one"), json.dumps({"name": name, "priority": priority}).encode())
    await asyncio.wait_for(end.wait(), 5)
    await inbox.unsubscribe()
    hint = f"urgent is {urgent}; of priorities 1, 7, 5, 4 it takes 7 and 5."
    return failed[0] if failed else urgent == ["call ann", "mail bob"] or hint


await lesson.check(1, answer_1, picks_urgent)

# %% [markdown]
# **2.** Write `async def answer_2(client, subject, count)`: it subscribes with the client that it is given, waits for
# `count` messages, ends the subscription, and returns the texts of these messages as a list.

# %% tags=["exercise-2", "quiet"]
answer_2 = ...


# %%
# Check of exercise 2: messages are published until yours has enough
async def collects(collect):
    client = await nats.connect(lesson.url)
    collecting = asyncio.create_task(collect(client, s("exercise.two"), 3))
    number = 0
    try:
        while not collecting.done() and number < 200:
            number += 1
            await planner.publish(s("exercise.two"), b"message")
            await asyncio.wait([collecting], timeout=0.02)
        if not collecting.done():
            return f"{number} messages were published, and it had not returned."
        texts = await collecting
        await client.flush()
        before = client.stats["in_msgs"]
        await planner.publish(s("exercise.two"), b"message")
        await planner.flush()
        await client.flush()
        if client.stats["in_msgs"] > before:
            return "It still receives messages afterwards."
        return texts == ["message"] * 3 or f"It returned {texts!r}; a list of three texts was asked for."
    finally:
        collecting.cancel()
        await client.close()


await lesson.check(2, answer_2, collects)

# %% [markdown]
# **3.** Agents tell on `s("agents.progress")` how far they are: `agent`, a text, and `percent`, a whole number. Write the
# class of these messages, and set `answer_3` to the `roost.Topic`.

# %% tags=["exercise-3", "quiet"]
answer_3 = ...


# %%
# Check of exercise 3: right and wrong messages are tried
async def fits(topic):
    if not isinstance(topic, roost.Topic) or not issubclass(topic.model, BaseModel):
        return "A roost.Topic of a subject and a class that is derived from BaseModel is wanted."
    if topic.subject != s("agents.progress"):
        return f"Its subject is {topic.subject}; take s('agents.progress')."
    try:
        progress = topic.model(agent="reader", percent=40)
    except ValueError:
        return "It does not take agent='reader', percent=40."
    try:
        return f"It takes 'half' for a percent: {topic.model(agent='reader', percent='half')}"
    except ValueError:
        pass
    inbox = await planner.subscribe(topic.subject)
    await planner.flush()
    async with roost.connect(lesson.url, namespace=lesson.namespace) as bus:
        await bus.publish(topic, progress)
    sent = json.loads((await inbox.next_msg(timeout=5)).data)
    await inbox.unsubscribe()
    return sent == {"agent": "reader", "percent": 40} or f"On the wire it is {sent}."


await lesson.check(3, answer_3, fits)

# %% [markdown]
# Next: [03-subjects](03-subjects.ipynb).

# %%
await planner.drain()
await lesson.close()

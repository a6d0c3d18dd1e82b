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
# # Subject hierarchies and wildcards
#
# Every message in NATS is published on a **subject**, such as `agents.worker1.status`: words (NATS calls them *tokens*)
# with dots between them.
# Whoever wants messages subscribes to a subject, or to a pattern that stands for many.
# After this notebook you can read and write such patterns, ask the server who would get a message, and choose subjects
# that others can listen to in ways that you did not think of.

# %%
import asyncio
import json
import logging
from functools import partial

import nats
from lesson import Lesson
from pydantic import BaseModel

import roost

logging.getLogger("roost").setLevel(logging.CRITICAL)  # we show what is refused ourselves
lesson = await Lesson.open(
    "Subjects and wildcards",
    needs={"Ask the server": "trace", "Streams": "jetstream", "Topics in Roost": "agents"},
)
s = lesson.subject  # gives the subject to use: on a shared server your prefix comes before it
lesson

# %% [markdown]
# ## Patterns
#
# A subscription may have two wildcards, each in place of whole words:
#
# - `*` stands for exactly one word, anywhere: `agents.*.status`.
# - `>` stands for one or more words, and only at the end: `agents.>`.
#
# Four listeners subscribe, each with its own pattern. `s(...)` is an addition of this course: it leaves a subject as it is
# on a server of your own, and puts your prefix before it on a server that you share; `lesson.bare` takes it off again.

# %%
# Subscribe to "agents.*.status" (wildcard), to "agents.>" (matches all), and to two more
client = await nats.connect(lesson.url, name="listener")
patterns = {
    "status board": s("agents.*.status"),
    "log": s("agents.>"),
    "nurse of worker1": s("agents.worker1.*"),
    "coordinator": s("agents.coordinator.*"),
}
subscriptions = {name: await client.subscribe(pattern) for name, pattern in patterns.items()}
await client.flush()  # returns when the server has seen all of this
for name, pattern in patterns.items():
    print(f"{name:16} listens to {lesson.bare(pattern)}")

# %% [markdown]
# A message has one subject, without wildcards. Here are three. Before you run the cells: which listener gets which?

# %%
# Publish to "agents.worker1.status", to "agents.worker2.status" and to "agents.coordinator.command"
await client.publish(s("agents.worker1.status"), b"idle")
await client.publish(s("agents.worker2.status"), b"busy")
await client.publish(s("agents.coordinator.command"), b"pause")
await client.flush()  # what the server had for this connection came before its answer to this

messages = [s("agents.worker1.status"), s("agents.worker2.status"), s("agents.coordinator.command")]
arrived = []
for name, subscription in subscriptions.items():
    while subscription.pending_msgs:
        message = await subscription.next_msg()
        arrived.append((message.subject, name))
        print(f"{name:16} got {message.data.decode():5} on {lesson.bare(message.subject)}")

# %% [markdown]
# Three messages were published and seven arrived: the server made a copy for each subscription that fits. The sender
# did nothing for that, and does not know about it.
#
# ## Ask the server
#
# When a message does not arrive, one wants to know who would have got it. The server can tell: a message with
# the headers `Nats-Trace-Dest` and `Nats-Trace-Only` takes the same way through the server as any other, but it is
# neither delivered nor stored. Instead the server reports, to the subject in `Nats-Trace-Dest`, how the message came in
# and each way out (*egress*) that it would have taken.

# %%
# needs: trace
# The question by hand
inbox = client.new_inbox()  # a subject that nobody else uses
reports = await client.subscribe(inbox)
await client.publish(messages[0], b"", headers={"Nats-Trace-Dest": inbox, "Nats-Trace-Only": "true"})
report = json.loads((await reports.next_msg(timeout=5)).data)
for event in report["events"]:
    kind = {"in": "came in on", "eg": "would go out to"}[event["type"]]
    print(f"{kind:16} {lesson.bare(event.get('sub') or event['subj'])}")
await reports.unsubscribe()

# %% [markdown]
# Roost asks this question with `bus.explain`, and puts the reports of all servers together.

# %%
# needs: trace
# Ask the server who would get each message; nothing is delivered
async with roost.connect(lesson.url, namespace=lesson.namespace) as bus:
    explained = [await bus.explain(subject) for subject in messages]
await client.flush()
print(sum(one.pending_msgs for one in subscriptions.values()), "messages arrived by asking")
explained[0]

# %% [markdown]
# The answer for `agents.worker1.status`: three subscriptions would get it. Nobody got anything from the question.
#
# Now the whole picture. Each row is a message, each column is a subscription; a cell is marked if the message **did** arrive,
# and it is compared with what the server **said**.

# %%
# needs: trace
# Show which subscriptions receive which messages, checked cell by cell against the server's answer
matrix = roost.delivery_matrix(
    patterns, messages, arrived, explained, title="Three messages, four subscriptions"
)
print("arrived and explained agree:", matrix.agrees)
assert matrix.agrees, matrix.differences
matrix

# %% [markdown]
# ## What a wildcard means
#
# The rules are few, but each is easy to get wrong. A wildcard stands for whole words: nats-py refuses a pattern in which it is part of a
# word, and one in which `>` is not at the end. (The server itself would take `work*` as a word with a star in it.)

# %%
# What is no pattern
for subscription in subscriptions.values():
    await subscription.unsubscribe()  # the four listeners from above have done their work
for wrong in ("agents.work*.status", "agents.>.status", "agents..status"):
    try:
        await client.subscribe(s(wrong))
    except nats.errors.BadSubjectError as error:
        print(f"{wrong:20} refused: {error}")

# %% [markdown]
# The next function makes a picture as above for any patterns and messages. It subscribes, asks, publishes, and looks at what came.
# Look for these in its picture:
#
# - In the middle, `*` is one word: `agents.*.status` does not get `agents.worker1.gpu.status`.
# - `agents.*` gets what has exactly two words. It does not reach further down; `agents.>` does.
# - `>` needs at least one word in its place: `agents.>` does not get `agents` itself.


# %%
# What a wildcard in the middle and at the end means
async def deliver(patterns, messages, title):
    patterns = {name: s(pattern) for name, pattern in patterns.items()}
    messages = [s(subject) for subject in messages.split()]
    ears = {name: await client.subscribe(pattern) for name, pattern in patterns.items()}
    await client.flush()
    async with roost.connect(lesson.url, namespace=lesson.namespace) as bus:
        explained = [await bus.explain(one) for one in messages] if lesson.has("trace") else []
    for subject in messages:
        await client.publish(subject)
    await client.flush()
    arrived = []
    for name, ear in ears.items():
        arrived += [((await ear.next_msg()).subject, name) for _ in range(ear.pending_msgs)]
        await ear.unsubscribe()
    matrix = roost.delivery_matrix(patterns, messages, arrived, explained, title=title)
    assert matrix.agrees or not explained, matrix.differences
    return matrix


four = {"two words": "agents.*", "a status": "agents.*.status", "all below": "agents.>", "any": "*.*.status"}
five = "agents agents.worker1 agents.worker1.status agents.worker1.gpu.status robots.r2.status"
await deliver(four, five, title="Wildcards at different depths")

# %% [markdown]
# Words are compared letter by letter: `Agents` and `agents` are different, and no subject has to be declared before
# it is used. A misspelt subject is therefore no error. The message goes to nobody, and the publisher is not told.
# Here the publisher forgets an `s`; `explain` shows that nobody would get its message:

# %%
# needs: trace
# Explain a subject that nobody listens to
everything = await client.subscribe(s("agents.>"))
await client.flush()
await client.publish(s("agent.worker1.status"), b"lost")  # `agent` without s: no error, no receiver
async with roost.connect(lesson.url, namespace=lesson.namespace) as bus:
    missed = await bus.explain(s("agent.worker1.status"))
    meant = await bus.explain(s("agents.worker1.status"))
print("subscriptions that get agent.worker1.status: ", len(missed.receivers))
print("subscriptions that get agents.worker1.status:", len(meant.receivers))
missed

# %% [markdown]
# A **stream** is a listener in the server itself, which stores what it gets (notebook 06). It has subjects, with the same
# wildcards, and `explain` names it, too. In the answer below look at the stream, and at the number of messages in it.

# %%
# needs: trace, jetstream
# Explain a subject that a stream stores
streams = client.jetstream()
await streams.add_stream(name=lesson.stream("COMMANDS"), subjects=[s("agents.*.command")])
async with roost.connect(lesson.url, namespace=lesson.namespace) as bus:
    stored = await bus.explain(messages[2])
print("messages in the stream:", (await streams.stream_info(lesson.stream("COMMANDS"))).state.messages)
await streams.delete_stream(lesson.stream("COMMANDS"))
await everything.unsubscribe()
stored

# %% [markdown]
# ## Good hierarchies
#
# A subject is an address and, at the same time, what listeners can choose by. What helps:
#
# - From general to particular: `team.<team>.<agent>.<kind>`. Each word answers one question, always at the same place.
# - Each question that somebody may ask should be one pattern: everything of one team, all errors, one agent.
# - Words from a known set (`status`, `error`, `result`) or short ids. No free text, no blanks, no personal data: subjects
#   appear in logs and in permissions.
# - What varies without end (text, numbers, times) belongs into the message, not into its subject.
# - A few words are enough; the NATS documentation recommends at most 16.

# %%
# One good hierarchy: each question is one pattern
questions = {
    "status board": "team.*.*.status",
    "alarm": "team.*.*.error",
    "head of research": "team.research.>",
    "friend of clerk1": "team.billing.clerk1.*",
}
said = """
    team.research.reader1.status team.research.reader2.result
    team.billing.clerk1.status team.billing.clerk1.error team.billing.clerk2.error
"""
await deliver(questions, said, title="team.<team>.<agent>.<kind>: each question is one pattern")

# %% [markdown]
# ## What Roost adds: topics
#
# With the plain client each program writes its subjects as text, takes them apart again, and decodes the bytes.
# A `Topic` is that agreement as one value, which both sides import: a template of the subject, and the model of the messages.
# On the wire it is the same subject, so that the plain client hears it as well.


# %%
# A topic: the subject's template and the model of its messages
class Status(BaseModel):
    state: str
    load: float


status = roost.Topic(s("team.{agent}.status"), Status)
board = roost.Agent("board")
heard = asyncio.Queue()


@board.handles(status)
async def show(message: Status, ctx: roost.Context) -> None:
    heard.put_nowait(f"{ctx.parameters['agent']} is {message.state}, load {message.load:.0%}")


print("the agent `board` will listen to", lesson.bare(status.pattern()))

# %% [markdown]
# `status.at(agent="worker1")` is the subject with its blank filled in. What may not stand there is refused before anything
# is sent: a name with a dot or a wildcard in it would make another subject. And a message that does not fit the
# model reaches no handler; the agent's bus counts it, logs it and tells who watches.

# %%
# needs: agents
# Publish to a topic; a name and a message that do not fit are refused
plain = await client.subscribe(s("team.*.status"))
await client.flush()
async with roost.connect(lesson.url, namespace=lesson.namespace) as bus, bus.serving(board):
    for worker, load in {"worker1": 0.25, "worker2": 0.9}.items():
        await bus.publish(status.at(agent=worker), Status(state="busy", load=load))
        print("board:", await asyncio.wait_for(heard.get(), 5))
    message = await plain.next_msg(timeout=5)
    print("plain client:", lesson.bare(message.subject), message.data.decode())
    try:
        status.at(agent="worker1.gpu")
    except roost.UnsafeToken as error:
        print("refused:", error)
    events = asyncio.Queue()
    bus.watch(events.put_nowait)
    await client.publish(s("team.worker3.status"), b'{"state": "busy"}')  # the load is missing
    event = await asyncio.wait_for(events.get(), 5)
    print(f"board: {event.kind} from worker3, {bus.counters['message_refused']} counted")
await plain.unsubscribe()

# %% [markdown]
# ## Exercises
#
# Write patterns as in the text, without `s(...)`: the checks put it around them. Only exercise 3 needs it.
#
# **1.** Agents report on `team.<team>.<agent>.<kind>`. Which pattern gets the errors of all agents of the team `research`, and
# nothing else?

# %% tags=["exercise-1", "quiet"]
answer_1 = ...


# %%
# Check of exercise 1: the pattern is subscribed to, and messages are published
async def gets(pattern, wanted, unwanted):
    try:
        ears = await client.subscribe(s(pattern))
    except nats.errors.BadSubjectError:
        return "That is no pattern: a wildcard is a whole word, and `>` is the last one."
    for subject in (*wanted, *unwanted):
        await client.publish(s(subject))
    await client.flush()
    came = [lesson.bare((await ears.next_msg()).subject) for _ in range(ears.pending_msgs)]
    await ears.unsubscribe()
    missing = [one for one in wanted if one not in came]
    extra = [one for one in unwanted if one in came]
    if missing:
        return f"It does not get {missing[0]}."
    return f"It gets {extra[0]} as well." if extra else True


wanted = "team.research.reader1.error team.research.reader2.error".split()
unwanted = "team.research.reader1.status team.billing.clerk1.error team.research.error".split()
await lesson.check(1, answer_1, partial(gets, wanted=wanted, unwanted=unwanted))

# %% [markdown]
# **2.** Which pattern gets everything that `worker1` says, at any depth, but nothing of `worker10`?

# %% tags=["exercise-2", "quiet"]
answer_2 = ...

# %%
# Check of exercise 2: likewise
wanted = "agents.worker1.status agents.worker1.gpu.status agents.worker1.gpu.0.error".split()
unwanted = "agents.worker10.status agents.worker10.gpu.status agents.worker2.status".split()
await lesson.check(2, answer_2, partial(gets, wanted=wanted, unwanted=unwanted))

# %% [markdown]
# **3.** Make a `roost.Topic` of `Status` for `robots.<site>.<robot>.battery`, and set `answer_3` to its address for the robot `r2`
# at the site `north`. The template goes through `s(...)` here, as with `status` above.

# %% tags=["exercise-3", "quiet"]
answer_3 = ...


# %%
# Check of exercise 3: a message is published to the address
async def at_the_site(address):
    if not isinstance(address, roost.Address):
        return "An address is made with topic.at(...)."
    if len(address.topic.template.parameters) != 2:
        return "The topic should have two parameters: the site and the robot."
    ears = await client.subscribe(s("robots.north.*.battery"))
    await client.flush()
    async with roost.connect(lesson.url, namespace=lesson.namespace) as bus:
        await bus.publish(address, Status(state="charging", load=0.5))
    try:
        message = await ears.next_msg(timeout=2)
    except nats.errors.TimeoutError:
        return (
            f"A listener to {s('robots.north.*.battery')} did not get it; the address is {address.subject}."
        )
    finally:
        await ears.unsubscribe()
    return message.subject == s("robots.north.r2.battery") or f"It came on {lesson.bare(message.subject)}."


await lesson.check(3, answer_3, at_the_site)

# %% [markdown]
# ## What was shown
#
# - A subject is words with dots; `*` is one word, `>` is the rest, and only subscriptions have them.
# - The server copies a message to each subscription that fits; a subject that nobody listens to is no error.
# - `bus.explain` asks the server who would get a message: subscriptions, queue groups, streams.
# - A `Topic` is a subject's template with a model, and refuses what does not fit before it is sent.

# %%
await client.close()
await lesson.close()

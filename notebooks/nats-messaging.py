# %% [markdown]
# # NATS Messaging for Multi-Agent Systems
#
# Asynchronous messaging for agents, all of it in one sitting:
#
# - publish and subscribe
# - request and reply
# - queue groups, which share work
# - streams, which keep messages
# - several agents that do a job together
# - what to do when something fails
#
# Each section is short and shows one thing after the other. Behind each link is a notebook that takes its time.
#
# ## Why NATS for Agents?
#
# NATS is a server that passes messages between programs. What one gets from it:
#
# - **Decoupled**: an agent names a subject, not another agent.
# - **Scalable**: more agents may come at any time; nothing has to be told about them.
# - **Fast**: a message takes less than a millisecond on a machine or in a local network.
# - **Patterns**: publish/subscribe, request/reply and streams, with one client.
# - **Resilient**: clients connect again by themselves, and what a stream has acknowledged outlives a kill of its server.
#
# [00-why-nats](00-why-nats.ipynb) measures each of the five. The first cell finds or starts a server: the one in the
# environment variable `NATS_URL` (a hub has one for everybody), else one of this notebook's own. The card says what
# can run there.

# %%
import asyncio
import json
import logging
import os
import time
from collections import Counter

import nats
from lesson import Lesson
from nats.aio.client import Client as NATS
from nats.errors import NoRespondersError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from pydantic import BaseModel

import roost
from roost.server import LocalServer

logging.getLogger("roost").addHandler(logging.NullHandler())  # we look at results instead of log lines
lesson = await Lesson.open(
    "NATS messaging in one sitting",
    needs={
        "JetStream": "jetstream",
        "Multi-agent coordination": "jetstream",
        "Retries, dead letters": "jetstream",
        "Connection failures": "local servers",
    },
)
s = lesson.subject  # on a shared server your prefix comes before each subject
lesson

# %% [markdown]
# ## Connect to NATS
#
# The address of the server is not written into the program.

# %%
# Load NATS_URL from environment
named = os.environ.get("NATS_URL")
url = named or lesson.url
print("NATS_URL is", "set" if named else "not set: this notebook's own server is taken")
print("address:", url.rpartition("@")[2])  # without a password, if there is one

# %%
# Create NATS client, and connect to server
client = NATS()
print("connected:", client.is_connected)
await client.connect(url, name="coordinator")  # `client = await nats.connect(url)` does both
print("connected:", client.is_connected)

# %% [markdown]
# What the server says of itself and of us, as a card; `bus` is a connection of Roost, the framework of this course.

# %%
# Display connection status
async with roost.connect(lesson.url, namespace=lesson.namespace) as bus:
    card = roost.connection_card(await bus.status())
card

# %% [markdown]
# More, also of servers that are not there: [01-connect](01-connect.ipynb).
#
# ## Publish/Subscribe Pattern
#
# A message is some bytes on a *subject*, a name such as `agents.tasks`. Who has subscribed to it gets a copy. A
# *handler* is the function that is called for each message.

# %%
# Define async subscriber function and message handler; subscribe to subject "agents.tasks"
received = asyncio.Queue()


async def subscriber(name):
    own = await nats.connect(lesson.url, name=name)  # an agent has a connection of its own

    async def handler(message):
        await received.put((name, lesson.bare(message.subject), message.data.decode()))

    subscription = await own.subscribe(s("agents.tasks"), cb=handler)
    await own.flush()  # when this returns, the server knows of the subscription
    return own, subscription


reader, reading = await subscriber("reader")
critic, _ = await subscriber("critic")
print("reader and critic listen to", lesson.bare(reading.subject))

# %% [markdown]
# The publisher does not know who listens. Two messages are published; how many arrive?

# %%
# Publish messages to subject; display received messages
for text in ("read chapter 1", "read chapter 2"):
    await client.publish(s("agents.tasks"), text.encode())
for name, subject, text in sorted([await asyncio.wait_for(received.get(), 5) for _ in range(4)]):
    print(f"{name} got on {subject}: {text}")

# %% [markdown]
# Each subscriber has a copy of each message. Whoever subscribes later gets none of these: the server passes messages
# on and keeps none ([02-publish-subscribe](02-publish-subscribe.ipynb)).
#
# `unsubscribe` ends a subscription. `drain` ends a connection, after what has arrived is handled.

# %%
# Clean up and close connection
await reading.unsubscribe()
for agent_connection in (reader, critic):
    await agent_connection.drain()
await client.publish(s("agents.tasks"), b"read chapter 3")
await client.flush()
print("closed:", reader.is_closed and critic.is_closed, "- got after that:", received.qsize())

# %% [markdown]
# ## Subject Hierarchies and Wildcards
#
# A subject is words with dots between them. In a subscription `*` stands for one word, and `>` for all that follow.

# %%
# Subscribe to "agents.*.status" (wildcard) and to "agents.>" (matches all)
patterns = {"status board": s("agents.*.status"), "log": s("agents.>")}
subscriptions = {name: await client.subscribe(pattern) for name, pattern in patterns.items()}
await client.flush()
for name, pattern in patterns.items():
    print(f"{name:12} listens to {lesson.bare(pattern)}")

# %%
# Publish to "agents.worker1.status", to "agents.worker2.status" and to "agents.coordinator.command"
messages = [s("agents.worker1.status"), s("agents.worker2.status"), s("agents.coordinator.command")]
for subject in messages:
    await client.publish(subject, b"hello")
await client.flush()  # what came for this connection was here before this returned
arrived = []
for name, subscription in subscriptions.items():
    while subscription.pending_msgs:
        arrived.append(((await subscription.next_msg()).subject, name))
print(f"published {len(messages)}, arrived {len(arrived)}")

# %% [markdown]
# Who got what? The rows are messages, the columns subscriptions. `bus.explain` asks the server who would get a
# message, without sending one; the picture compares its answers with what arrived.

# %%
# Show which subscriptions receive which messages
async with roost.connect(lesson.url, namespace=lesson.namespace) as bus:
    explained = [await bus.explain(subject) for subject in messages] if lesson.has("trace") else []
matrix = roost.delivery_matrix(
    patterns, messages, arrived, explained, title="Three messages, two subscriptions"
)
for subscription in subscriptions.values():
    await subscription.unsubscribe()
matrix

# %% [markdown]
# More: [03-subjects](03-subjects.ipynb).
#
# ## Request/Reply Pattern
#
# A request is a message that names a subject for the answer, which the client makes up. The responder publishes its
# answer there.

# %%
# Create responder function (subscribes and replies)
worker = await nats.connect(lesson.url, name="worker1")


async def responder(subject):
    async def process(message):
        task = json.loads(message.data)
        answer = {"task": task["task"], "words": len(task["text"].split()), "by": "worker1"}
        await message.respond(json.dumps(answer).encode())

    await worker.subscribe(s(subject), cb=process)
    await worker.flush()


await responder("agents.worker1.process")
print("worker1 answers on agents.worker1.process")


# %%
# Create requester function (sends request, awaits reply); ask agent to process task; display request and response
async def requester(subject, task, timeout_s=5.0):
    reply = await client.request(s(subject), json.dumps(task).encode(), timeout=timeout_s)
    return json.loads(reply.data)


task = {"task": 1, "text": "to be or not to be"}
print("request: ", task)
print("response:", await requester("agents.worker1.process", task))

# %% [markdown]
# Two things can go wrong, and they mean different things. Nobody listens: the server says so at once, nothing has
# happened. No answer in time: nobody knows whether the work was done.

# %%
# Show timeout handling
await worker.subscribe(s("agents.worker1.sleep"))  # takes requests and never answers
await worker.flush()
for subject in ("agents.worker1.sleep", "agents.worker9.process"):
    began = time.monotonic()
    try:
        await requester(subject, task, timeout_s=0.3)
    except NoRespondersError:
        print(f"{subject}: nobody listens, known after {time.monotonic() - began:.3f} s")
    except nats.errors.TimeoutError:
        print(f"{subject}: no answer within {time.monotonic() - began:.1f} s")

# %% [markdown]
# Answers in pieces, slow responders, errors that arrive as such: [04-request-reply](04-request-reply.ipynb).
#
# ## Queue Groups for Load Balancing
#
# Subscribers with the same `queue` name form a group, and each message goes to one of them.

# %%
# Create multiple subscribers with same queue group
done, group = asyncio.Queue(), {}


async def join(name):
    own = group[name] = await nats.connect(lesson.url, name=name)

    async def work(message):
        await done.put((name, int(message.data)))

    await own.subscribe(s("agents.work"), queue="workers", cb=work)
    await own.flush()


for name in ("worker1", "worker2", "worker3"):
    await join(name)
print("in the group `workers`:", *group)

# %%
# Publish multiple tasks; show how work is distributed: each agent processes different messages
for number in range(300):
    await client.publish(s("agents.work"), str(number).encode())
handled = [await asyncio.wait_for(done.get(), 10) for _ in range(300)]
times = Counter(number for _, number in handled)
print(f"tasks done: {len(times)}, done twice: {sum(count > 1 for count in times.values())}")
for name in group:
    print(name, "began with", [number for who, number in handled if who == name][:8])

# %%
# Display load distribution
for own in group.values():
    await own.drain()
roost.load_picture([name for name, _ in handled], title="300 tasks, three workers", unit="tasks")

# %% [markdown]
# The choice is random, so the shares are about equal. The server does not look who is busy, and what a worker holds
# that dies is lost ([05-queue-groups](05-queue-groups.ipynb)). That is what streams are for.
#
# ## JetStream: Persistent Messaging
#
# JetStream is the part of the server that stores messages. A *stream* stores what is published on its subjects.

# %%
# needs: jetstream
# Get JetStream context; create stream for agent tasks
js = client.jetstream()
TASKS = lesson.stream("AGENT_TASKS")
info = await js.add_stream(name=TASKS, subjects=[s("agents.tasks.>")])
print(info.config.name, "keeps", *(lesson.bare(subject) for subject in info.config.subjects))

# %% [markdown]
# `js.publish` waits for the acknowledgement that the message is stored. If none comes one publishes again, with the
# same `Nats-Msg-Id`, by which the server knows a repetition.

# %%
# needs: jetstream
# Publish messages to stream
for number in (1, 2, 3, 4, 4):
    headers = {"Nats-Msg-Id": f"page-{number}"}
    ack = await js.publish(s("agents.tasks.read"), f"page {number}".encode(), headers=headers)
    print(f"page {number}: stored as number {ack.seq}{', was there before' if ack.duplicate else ''}")

# %% [markdown]
# A *consumer* is the server's memory of who has read how far; a durable one has a name and stays. The worker says
# `ack` when a message is done. Below, it forgets that once for page 2, as if it had crashed. Watch page 2.

# %%
# needs: jetstream
# Create durable consumer; consume messages with acknowledgment
config = ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, ack_wait=0.5)  # seconds until it is given out again
tasks = await js.pull_subscribe(
    s("agents.tasks.>"), durable=lesson.stream("workers"), stream=TASKS, config=config
)
open_tasks = 4
while open_tasks:
    [message] = await tasks.fetch(1, timeout=5)
    text, delivery = message.data.decode(), message.metadata.num_delivered
    if text == "page 2" and delivery == 1:
        print(f"{text}, delivery {delivery}: no ack, as after a crash")
    else:
        await message.ack_sync()
        open_tasks -= 1
        print(f"{text}, delivery {delivery}: done")

# %% [markdown]
# Nothing was lost. The price: a message may come twice, and a handler has to bear that.
#
# Reading removed nothing. Another consumer reads the same messages again, from where it likes.


# %%
# needs: jetstream
# Show message replay capability
async def replay(**begin):
    again = await js.pull_subscribe(
        s("agents.tasks.>"), stream=TASKS, config=ConsumerConfig(ack_policy=AckPolicy.NONE, **begin)
    )
    waiting = (await again.consumer_info()).num_pending
    return [message.data.decode() for message in await again.fetch(waiting, timeout=5)]


from_the_start = await replay(deliver_policy=DeliverPolicy.ALL)
from_number_3 = await replay(deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=3)
print("from the start:", from_the_start)
print("from number 3: ", from_number_3)

# %% [markdown]
# Times to begin with, stream processing, three servers of which one dies: [06-jetstream](06-jetstream.ipynb).
#
# ## Multi-Agent Coordination Example
#
# A complete workflow: letters from customers come in, each is labelled, and one wants to know what they are about.
# Three roles: the coordinator hands out the letters, workers label them, a reporter puts the labels together.
#
# You have seen the parts: a stream for the tasks, consumers, acks, ids against repetition. What is missing is the
# bookkeeping: which result belongs to which task, how far the coordinator was when it died. Roost has that. What the
# agents agree on comes first: two kinds of *task* and a *workflow*, with the models of what goes in and out.


# %%
# What the agents agree on
class Letter(BaseModel):
    number: int
    text: str


class Label(BaseModel):
    number: int
    about: str


label = roost.Task("label", Letter, Label)
report = roost.Task("report", list[Label], dict[str, int])
triage = roost.Workflow("triage", list[Letter], dict[str, int])
print("contracts:", label.name, report.name, triage.name)

# %%
# Define Worker agents (subscribe to tasks)
labeller = roost.Agent("worker")


@labeller.handles(label, concurrency=2)
async def find_label(letter: Letter) -> Label:
    await asyncio.sleep(0.1)  # stands for a question to a language model
    words = ("invoice", "password")
    return Label(number=letter.number, about=next((w for w in words if w in letter.text), "other"))


print("a handler is a plain function:", await find_label(Letter(number=0, text="my password")))

# %%
# Define Coordinator agent (publishes tasks): task distribution
coordinator = roost.Agent("coordinator", calls=[label, report])


@coordinator.handles(triage)
async def coordinate(letters: list[Letter], run: roost.Run) -> dict[str, int]:
    async with run.map(label, letters, key=lambda one: str(one.number)) as outcomes:
        labels = [one.value async for one in outcomes if isinstance(one, roost.Done)]
    return await run.call(report, labels)


print("the coordinator has tasks done by others:", label.name, "for each letter, then one", report.name)

# %%
# Define Reporter agent (collects results): result aggregation
reporter = roost.Agent("reporter")


@reporter.handles(report)
async def aggregate(labels: list[Label]) -> dict[str, int]:
    return dict(Counter(one.about for one in labels).most_common())


print("two labels make:", await aggregate([Label(number=1, about="invoice"), Label(number=2, about="other")]))

# %% [markdown]
# Now all of them run, two workers among them. Here they live in this process; [07-a-team](07-a-team.ipynb) starts
# them as processes of their own, and kills two.

# %%
# needs: jetstream, agents
# Run complete workflow
texts = ["my invoice is wrong", "password lost", "where is my invoice?", "thank you", "a second invoice"]
letters = [Letter(number=number, text=text) for number, text in enumerate(texts * 3, 1)]
async with (
    roost.connect(lesson.url, namespace=lesson.namespace) as bus,
    bus.serving(coordinator, labeller, labeller, reporter),
):
    handle = await bus.start(triage, letters, key="monday")
    print(len(letters), "letters are about", await handle.result(timeout_s=20))
    picture = await roost.timeline(bus, handle)

# %% [markdown]
# Everything is on record, so it can be drawn: one lane is one agent, one bar a piece of work.

# %%
# needs: jetstream, agents
# Display timeline of agent interactions
picture

# %% [markdown]
# ## Error Handling and Resilience
#
# ### The server is gone
#
# The client connects and subscribes again by itself and tells you by callbacks. This cell kills a server of its own
# and starts it again.

# %%
# needs: local servers
# Handle connection failures
server = await asyncio.to_thread(LocalServer().start)
happened = asyncio.Queue()


def noting(text):
    async def callback(*_):
        happened.put_nowait(text)

    return callback


async def refused(error):
    """Called for each attempt to connect that fails."""


far = await nats.connect(
    server.url,
    max_reconnect_attempts=-1,  # for ever; the default is 60, after that the client gives up
    reconnect_time_wait=0.1,
    disconnected_cb=noting("connection lost"),
    reconnected_cb=noting("connected again"),
    error_cb=refused,
)
inbox = await far.subscribe("agents.news")
await asyncio.to_thread(server.kill)
print(await asyncio.wait_for(happened.get(), 10))
await asyncio.to_thread(server.restart)
print(await asyncio.wait_for(happened.get(), 10))
await far.publish("agents.news", b"the old subscription works")
print((await inbox.next_msg(timeout=5)).data.decode())
await far.close()
await asyncio.to_thread(server.stop)

# %% [markdown]
# ### Try again, later each time
#
# What failed a moment ago probably fails again at once. So one waits, longer each time (*backoff*), and a bit at
# random. In Roost a task has this in its contract, and the server keeps the waits. This one asks a service that fails
# twice.

# %%
# needs: jetstream, agents
# Implement retry logic
forecast = roost.Task("forecast", str, str, retry=roost.Retry(attempts=4, base_s=0.2))
forecaster = roost.Agent("forecaster")


@forecaster.handles(forecast)
async def look_up(city: str, ctx: roost.Context) -> str:
    await asyncio.sleep(0.1)
    if not city.isalpha():
        raise roost.Reject(f"{city!r} is no city")  # trying again would not help
    if ctx.attempt <= 2:
        raise ConnectionError("the weather service is busy")
    return f"sunny in {city}"


async with roost.connect(lesson.url, namespace=lesson.namespace) as bus, bus.serving(forecaster):
    handle = await bus.submit(forecast, "Oslo", key="oslo")
    print(await handle.result(timeout_s=10))
    picture = await roost.timeline(bus, handle)
picture

# %% [markdown]
# ### Dead letters
#
# Some work can never succeed. Such a task becomes a *dead letter*: kept with its input and the reason, for somebody
# to look at, to mend and to replay.

# %%
# needs: jetstream, agents
# Dead letter queue for failed messages
async with roost.connect(lesson.url, namespace=lesson.namespace) as bus, bus.serving(forecaster):
    await (await bus.submit(forecast, "0slo")).outcome(timeout_s=10)
    letter = (await bus.dead_letters(forecast))[-1]
    print(f"dead letter: input {letter.input.decode()}, error: {letter.error}")
    mended = await bus.replay(forecast, letter, "Oslo")
    print("replayed with another input:", await mended.result(timeout_s=10))

# %% [markdown]
# ### Timeouts, and a circuit breaker
#
# Each call has a time limit. When a service is down, each call costs that much. A *circuit breaker* counts failures
# and *opens*: calls fail at once. After a while it lets one through as a probe (*half open*), and closes if that goes
# well. The service below is down for a while.

# %%
# Timeouts and circuit breakers
arrived_calls, down_s = 0, (0.2, 0.9)


async def service(message):
    global arrived_calls
    arrived_calls += 1
    if not down_s[0] < time.time() - began_s < down_s[1]:
        await message.respond(b"sunny")


await worker.subscribe(s("agents.weather"), cb=service)
await worker.flush()
breaker = roost.CircuitBreaker("weather", roost.BreakerPolicy(minimum_calls=3, window_s=0.5, open_s=0.3))
states, results, began_s = [], Counter(), time.time()
breaker.watch(states.append)
while time.time() - began_s < 1.4 or breaker.state != "closed":
    try:
        await breaker.call(client.request, s("agents.weather"), b"Oslo", timeout=0.1)
        results["answered"] += 1
    except nats.errors.TimeoutError:
        results["timed out"] += 1
    except roost.BreakerOpen:
        results["refused at once"] += 1
    await asyncio.sleep(0.04)
print(
    ", ".join(f"{count} {what}" for what, count in results.items()), f"- {arrived_calls} reached the service"
)
roost.breaker_strip(states, title="Calls to the weather service", began_s=began_s, until_s=time.time())

# %% [markdown]
# ### Leave in order
#
# A worker that is stopped should finish what it has. `drain` does that: no new messages, those that are here are
# handled, then the connection is closed. A Roost agent does the same at the end of its `async with`, or at SIGTERM.

# %%
# Graceful shutdown
finished, at_work = [], asyncio.Event()


async def slow(message):
    at_work.set()
    await asyncio.sleep(0.02)  # the work
    finished.append(message.data)


leaving = await nats.connect(lesson.url, name="leaving")
await leaving.subscribe(s("agents.slow"), cb=slow)
await leaving.flush()
for number in range(10):
    await client.publish(s("agents.slow"), str(number).encode())
await client.flush()
await leaving.flush()
await asyncio.wait_for(at_work.wait(), 5)
print(f"finished when it is told to stop: {len(finished)} of 10")
await leaving.drain()
print(f"finished when it is closed: {len(finished)} of 10")

# %% [markdown]
# More of all this: [08-when-things-fail](08-when-things-fail.ipynb).
#
# ## Best Practices
#
# | practice | why | shown in |
# |---|---|---|
# | Use meaningful subject hierarchies | each question of a listener is one pattern | *Subject Hierarchies* above, [03](03-subjects.ipynb), [09](09-good-practice.ipynb) |
# | Add JSON schema validation for messages | a broken message is refused at the door | the next cell, [09](09-good-practice.ipynb) |
# | Implement idempotent message handlers | messages may come twice | page 2 in *JetStream* above, [09](09-good-practice.ipynb) |
# | Use queue groups for scalability | add a worker, change nothing else | *Queue Groups* above, [05](05-queue-groups.ipynb) |
# | Enable persistence for critical messages | who is away misses nothing | *JetStream* above, [06](06-jetstream.ipynb) |
# | Monitor message flow and latency | one sees what is slow before it is late | the last cell of this section, [09](09-good-practice.ipynb) |
# | Handle disconnections gracefully | servers are restarted | *The server is gone* above, [01](01-connect.ipynb), [08](08-when-things-fail.ipynb) |
#
# A model such as `Letter` is a JSON schema in Python. It says what is wrong with a message, and where:

# %%
# Add JSON schema validation for messages
print("schema:", {name: part["type"] for name, part in Letter.model_json_schema()["properties"].items()})
for data in (b'{"number": 1, "text": "hello"}', b'{"number": "one", "text": "hello"}'):
    try:
        print("taken:  ", Letter.model_validate_json(data))
    except ValueError as error:
        [found] = error.errors()
        print("refused:", *found["loc"], "-", found["msg"])

# %% [markdown]
# And how long does a request take here? *p50* is the time that half of them did not exceed, *p99* the time that 99 of
# 100 did not.

# %%
# Monitor message flow and latency
samples_s = []
for _ in range(300):
    began = time.perf_counter()
    await requester("agents.worker1.process", task)
    samples_s.append(time.perf_counter() - began)
roost.latency_picture(samples_s, title="300 requests, one after the other")

# %% [markdown]
# ## Exercises
#
# **1.** Write `async def answer_1(client, subject)`: a responder that replies to each request with its text in upper
# case. Several clients will call it with the same subject; each request has to be handled by one of them only.

# %% tags=["exercise-1", "quiet"]
answer_1 = ...


# %%
# Check of exercise 1: three clients, nine requests
async def shouts(function):
    crew = [await nats.connect(lesson.url) for _ in range(3)]
    replies = await client.subscribe(inbox := client.new_inbox())
    try:
        for one in crew:
            await function(one, s("exercise.shout"))
            await one.flush()
        for number in range(9):
            await client.publish(s("exercise.shout"), f"task {number}".encode(), reply=inbox)
        await client.flush()
        for one in crew:
            await one.drain()
        await client.flush()
        texts = sorted([(await replies.next_msg()).data.decode() for _ in range(replies.pending_msgs)])
    finally:
        await replies.unsubscribe()
        for one in crew:
            await one.close()
    if len(texts) > 9:
        return f"9 requests were answered {len(texts)} times. What makes subscribers share messages?"
    return texts == [f"TASK {number}" for number in range(9)] or f"The answers to `task 0` ... were {texts}."


await lesson.check(1, answer_1, shouts)

# %% [markdown]
# **2.** A new agent wants only the newest message of the stream, and all that come later. Give the options for
# `replay` (above) as a `dict`.

# %% tags=["exercise-2", "quiet"]
answer_2 = ...


# %%
# needs: jetstream
# Check of exercise 2: what does a consumer with these options read?
async def newest(options):
    if not isinstance(options, dict):
        return "A dict is wanted, such as dict(deliver_policy=DeliverPolicy.ALL)."
    if options.get("deliver_policy") == DeliverPolicy.BY_START_SEQUENCE:
        return (
            "That is right as long as nobody publishes another one. Is there a policy that needs no number?"
        )
    if options.get("deliver_policy") == DeliverPolicy.NEW:
        return "That gives what comes later, without the newest one that is there."
    read = await replay(**options)
    return read == ["page 4"] or f"It read {read}."


await lesson.check(2, answer_2, newest)

# %% [markdown]
# ## Next Steps
#
# In this course:
#
# - The notebooks [00](00-why-nats.ipynb) to [09](09-good-practice.ipynb) take the sections above one by one.
# - [10-an-agent-that-thinks](10-an-agent-that-thinks.ipynb) puts a language model behind a task, and lets it use other
#   agents as its tools. It is the place to go on from here to frameworks for agents; CrewAI is not part of this course.
# - To run agents in production: [operations](../docs/operations.md) and [deploy](../deploy), with Docker Compose and
#   Kubernetes.
#
# Retrieval (RAG) and vector search are not part of this course; such a pipeline is a worker like the others.

# %%
for connection in (client, worker):
    await connection.close()
await lesson.close()

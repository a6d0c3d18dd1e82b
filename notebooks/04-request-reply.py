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
# # Request and reply
#
# Often one agent wants an answer from another: it asks, and waits. After this notebook you can write both sides, you
# know what happens when the answer is late or nobody is there, and you can answer in pieces.
#
# There is no second kind of message for this. A request is a message that also names a subject for the answer, the
# *reply subject*. The client makes one up that nobody else uses, an **inbox**, and listens there.

# %%
import asyncio
import json
import logging
import time

import nats
from lesson import Lesson
from nats.errors import NoRespondersError
from pydantic import BaseModel

import roost

logging.getLogger("roost").setLevel(logging.CRITICAL)  # we show the errors ourselves
lesson = await Lesson.open("Request and reply", needs={"What Roost adds": "agents"})
s = lesson.subject  # gives the subject to use: on a shared server your prefix comes before it
lesson

# %% [markdown]
# ## A responder and a requester
#
# The responder subscribes to a subject. For each message it does its work and publishes the answer on the message's reply
# subject; `message.respond` does the latter.

# %%
# Responder: subscribes, does the work, replies
worker = await nats.connect(lesson.url, name="worker1")
hops = []  # who sent what to whom, for the picture


async def process(message):
    hops.append(("requester", "agents.worker1.process", "worker1"))
    task = json.loads(message.data)
    answer = {"task": task["task"], "words": len(task["text"].split()), "by": "worker1"}
    await message.respond(json.dumps(answer).encode())


await worker.subscribe(s("agents.worker1.process"), cb=process)
await worker.flush()  # from here on the server knows about it
print("worker1 answers requests on agents.worker1.process")

# %% [markdown]
# The requester sends and waits. `client.request` makes the inbox, publishes, and returns the first message that arrives there.

# %%
# Requester: sends a request and awaits the reply. Example: ask an agent to process a task
client = await nats.connect(lesson.url, name="requester")


async def ask(task, timeout_s=5.0):
    reply = await client.request(s("agents.worker1.process"), json.dumps(task).encode(), timeout=timeout_s)
    answer = json.loads(reply.data)
    hops.append((answer["by"], reply.subject.split(".")[0] + ".<random>", "requester"))
    return answer


for number, text in enumerate(["to be or not to be", "that is the question"], 1):
    task = {"task": number, "text": text}
    print("request: ", task)
    print("response:", await ask(task))

# %% [markdown]
# The same as a picture; at each arrow stands how many messages. The answers do not go to `agents.worker1.process`, where other workers might listen, but to the
# requester's inbox alone.

# %%
# Request and response: who sent what to whom
roost.flow_picture(hops, title="Two requests and their answers")

# %% [markdown]
# ## When no answer comes
#
# Give each request a time limit. This responder gets the request and never answers; the requester stops waiting
# after 0.3 s.


# %%
# A timeout that fires
async def forgets(message):
    print("worker1 got:", message.data.decode())


await worker.subscribe(s("agents.worker1.forget"), cb=forgets)
await worker.flush()
began = time.monotonic()
try:
    await client.request(s("agents.worker1.forget"), b"are you there?", timeout=0.3)
except nats.errors.TimeoutError:
    print(f"no answer within 0.3 s (gave up after {time.monotonic() - began:.2f} s)")

# %% [markdown]
# If nobody listens at all there is no need to wait. The server knows that there is no subscription, and says so at once,
# however long the time limit is:

# %%
# Nobody listens: said at once
began = time.monotonic()
try:
    await client.request(s("agents.worker9.process"), b"are you there?", timeout=30)
except NoRespondersError:
    print(f"nobody listens on agents.worker9.process, known after {(time.monotonic() - began) * 1000:.1f} ms")

# %% [markdown]
# So these two errors mean different things. After *no responders* nothing has happened, and trying again is safe.
# After a *timeout* nobody knows: the request may be lost, or in work, or done with the answer on its way. Here it is in work:

# %%
# A slow responder: the requester gives up, the work is done all the same
finished = asyncio.Event()


async def slow(message):
    await asyncio.sleep(0.3)  # the work
    await message.respond(b"done")
    finished.set()


await worker.subscribe(s("agents.worker1.slow"), cb=slow)
await worker.flush()
try:
    await client.request(s("agents.worker1.slow"), b"", timeout=0.1)
except nats.errors.TimeoutError:
    print("requester: no answer within 0.1 s")
await asyncio.wait_for(finished.wait(), 5)
print("worker1:   finished and answered, but nobody waits for it now")
print(
    "requester, with more patience:",
    (await client.request(s("agents.worker1.slow"), b"", timeout=5)).data.decode(),
)

# %% [markdown]
# ### Slow because of a queue
#
# A subscription of nats-py runs its handler for one message at a time. If the work takes 20 ms, the twentieth of 20 requests
# that come together waits for nineteen others first. A handler that starts an `asyncio` task for each message does not
# have that queue. In the picture a column shows how many requests took so long; *p50* is the time that half of them did not
# exceed, *p99* the time that 99 of 100 did not. Compare those of the two.


# %%
# One at a time, or all together: how long 20 requests take
running, took_s = [], {}  # asyncio wants somebody to hold on to its tasks


async def one_at_a_time(message):
    await asyncio.sleep(0.02)
    await message.respond(b"")


async def all_together(message):
    running.append(asyncio.create_task(one_at_a_time(message)))


async def timed(subject):
    began = time.monotonic()
    await client.request(subject, b"", timeout=5)
    return time.monotonic() - began


for handler in (one_at_a_time, all_together):
    subject = s(f"agents.worker1.{handler.__name__}")
    await worker.subscribe(subject, cb=handler)
    await worker.flush()
    took_s[handler.__name__.replace("_", " ")] = await asyncio.gather(*(timed(subject) for _ in range(20)))
roost.latency_picture(took_s, title="20 requests that come together, 20 ms of work each")

# %% [markdown]
# Above, the columns go on to the right: each request waits 20 ms longer than the one before it. Below, there is one
# column: all took about as long as the work.
#
# ## A streamed answer
#
# A language model gives its answer word by word. The requester may listen to its inbox itself and take any number of
# messages. Both sides have to agree how the end is marked; here it is an empty message.


# %%
# A streamed answer: several replies to one inbox
async def tell(message):
    for word in "to be , I think".split():
        await worker.publish(message.reply, word.encode())
    await worker.publish(message.reply, b"")  # that was all


await worker.subscribe(s("agents.worker1.tell"), cb=tell)
await worker.flush()

inbox = client.new_inbox()
replies = await client.subscribe(inbox)
await client.publish(s("agents.worker1.tell"), b"to be or not to be?", reply=inbox)
while (piece := await replies.next_msg(timeout=5)).data:
    print("piece:", piece.data.decode())
await replies.unsubscribe()
print("end")

# %% [markdown]
# This is enough for a demonstration. A real program needs more: the responder should stop when the requester has gone away,
# it should not be faster than the requester reads, and an error in the middle should arrive as one.
#
# ## What Roost adds: endpoints
#
# An `Endpoint` is the agreement on a request: its name, the model of the question and the model of the answer. Both sides import
# it. The agent's handler is a function from one to the other, and several requests run at once.


# %%
# A typed endpoint: a contract, and an agent that serves it
class Job(BaseModel):
    text: str


class Count(BaseModel):
    words: int
    letters_per_word: float


process_text = roost.Endpoint("process_text", Job, Count)
counter = roost.Agent("counter")


@counter.handles(process_text, concurrency=8)
async def count(job: Job) -> Count:
    if len(job.text) > 40:
        raise roost.Reject(f"{len(job.text)} characters, at most 40 are counted")
    words = job.text.split()
    return Count(words=len(words), letters_per_word=sum(map(len, words)) / len(words))


print("the contract:", process_text, " the agent:", counter.name)

# %% [markdown]
# The requester sends a `Job` and gets a `Count`; nobody turns anything into bytes by hand.
#
# The plain client knows two failures, a timeout and nobody there. A handler that raised was, for the requester, a timeout
# as well. Here it arrives as an error: `RemoteError`, with a code and what the other side said. The handler above refuses
# long texts with `roost.Reject`. It also has a mistake: what if there are no words? We ask four times; see what each gets.


# %%
# needs: agents
# A remote error: the handler's own words
async def attempt(bus, endpoint, job):
    try:
        print(f"{job.text!r}: {await bus.request(endpoint, job, timeout_s=5)}")
    except roost.RemoteError as error:
        print(f"{job.text!r}: RemoteError, {error.code}: {error.message}")
    except roost.NoResponders:
        print(f"{job.text!r}: NoResponders")


async with roost.connect(lesson.url, namespace=lesson.namespace) as bus:
    async with bus.serving(counter):
        await attempt(bus, process_text, Job(text="that is the question"))
        await attempt(bus, process_text, Job(text="words " * 8))
        await attempt(bus, process_text, Job(text=""))
    await attempt(bus, process_text, Job(text="is anybody there?"))  # the agent has stopped

# %% [markdown]
# The time limit travels with the request. When it has passed, the handler is stopped too: nobody would read its answer.
# Compare with the slow responder above, which went on.

# %%
# needs: agents
# A slow responder in Roost: the handler is stopped when the requester gives up
think = roost.Endpoint("think", Job, Count)
thinker = roost.Agent("thinker")
stopped = asyncio.Event()


@thinker.handles(think)
async def think_long(job: Job, ctx: roost.Context) -> Count:
    try:
        print(f"handler:   has {ctx.remaining_s:.1f} s")
        await asyncio.sleep(60)
        return Count(words=0, letters_per_word=0)
    except asyncio.CancelledError:
        stopped.set()
        raise


async with roost.connect(lesson.url, namespace=lesson.namespace) as bus, bus.serving(thinker):
    try:
        await bus.request(think, Job(text="why?"), timeout_s=0.2)
    except roost.RequestTimeout as error:
        print("requester: no answer within", error.timeout_s, "s")
    await asyncio.wait_for(stopped.wait(), 5)
    print("handler:   was stopped")

# %% [markdown]
# A `StreamEndpoint` is the streamed answer with what was missing above. The handler is an async generator; it waits when the
# reader is slow, it is stopped when the reader leaves, and if it raises, the reader gets a `RemoteError` after the pieces that
# were sent.

# %%
# needs: agents
# A streamed answer in Roost: an async generator, read in a loop, left early
chat = roost.StreamEndpoint("chat", Job, Job)
talker = roost.Agent("talker")
left = asyncio.Event()


@talker.handles(chat)
async def talk(job: Job):
    try:
        for number in range(1_000_000):
            yield Job(text=f"{job.text} {number}")
    finally:
        left.set()


async with roost.connect(lesson.url, namespace=lesson.namespace) as bus, bus.serving(talker):
    async with bus.stream(chat, Job(text="sheep"), idle_timeout_s=5) as pieces:
        async for piece in pieces:
            print("piece:", piece.text)
            if piece.text == "sheep 3":
                break
    await asyncio.wait_for(left.wait(), 5)
    print("the reader has left, and the generator was closed")

# %% [markdown]
# ## Exercises
#
# **1.** Write a responder, `async def answer_1(message)`: the message's data is a JSON list of numbers, and it replies with
# their sum, as JSON.

# %% tags=["exercise-1", "quiet"]
answer_1 = ...


# %%
# Check of exercise 1: it is asked for three sums
async def adds(handler):
    subscription = await worker.subscribe(s("exercise.sum"), cb=handler)
    await worker.flush()
    try:
        for numbers in ([1, 2, 3], [], [20, 22]):
            reply = await client.request(s("exercise.sum"), json.dumps(numbers).encode(), timeout=1)
            if json.loads(reply.data) != sum(numbers):
                return f"For {numbers} it replied {reply.data.decode()}."
    except nats.errors.TimeoutError:
        return "A request got no reply: did the function raise, or print instead of replying?"
    finally:
        await subscription.unsubscribe()
    return True


await lesson.check(1, answer_1, adds)

# %% [markdown]
# **2.** Write `async def answer_2(client, subject)`: it asks there with an empty message and waits 0.5 s at most. It returns the reply's data (bytes), or `"nobody"` when nobody listens, or `"late"` when no answer came in time.

# %% tags=["exercise-2", "quiet"]
answer_2 = ...


# %%
# Check of exercise 2: it asks somebody, nobody, and one who never answers
async def tells_apart(function):
    async def here(message):
        await message.respond(b"here I am")

    subscription = await worker.subscribe(s("exercise.here"), cb=here)
    await worker.flush()
    cases = {"exercise.here": b"here I am", "exercise.nobody": "nobody", "agents.worker1.forget": "late"}
    try:
        for subject, wanted in cases.items():
            found = await function(client, s(subject))
            if found != wanted:
                return f"On {subject} it returned {found!r}, wanted is {wanted!r}."
    except (nats.errors.TimeoutError, NoRespondersError) as error:
        return f"It raised {type(error).__name__} on {subject}; catch that."
    finally:
        await subscription.unsubscribe()
    return True


await lesson.check(2, answer_2, tells_apart)

# %% [markdown]
# **3.** Mend the mistake: write `async def answer_3(job: Job) -> Count`, a handler for `process_text` that counts as above,
# and that *rejects* a text without words, with a reason.

# %% tags=["exercise-3", "quiet"]
answer_3 = ...


# %%
# needs: agents
# Check of exercise 3: an agent serves it
async def rejects(handler):
    agent = roost.Agent("exercise")
    agent.handles(process_text)(handler)
    async with roost.connect(lesson.url, namespace=lesson.namespace) as bus, bus.serving(agent):
        found = await bus.request(process_text, Job(text="owls and wrens"), timeout_s=5)
        if found != Count(words=3, letters_per_word=4):
            return f"Of 'owls and wrens' it made {found}."
        try:
            found = await bus.request(process_text, Job(text=" "), timeout_s=5)
        except roost.RemoteError as error:
            return (
                error.code == "rejected" or f"The requester got the code {error.code!r}: raise roost.Reject."
            )
    return f"A text without words was answered with {found}."


await lesson.check(3, answer_3, rejects)

# %% [markdown]
# ## What was shown
#
# - A request is a message with a reply subject; the answer goes to the requester's inbox.
# - Nobody listening is known at once, and nothing happened. After a timeout nobody knows, and the work may be done all the same.
# - Several replies to one inbox are a streamed answer.
# - `Endpoint` and `StreamEndpoint` carry types, the handler's errors and the time limit from one side to the other.

# %%
await client.close()
await worker.close()
await lesson.close()

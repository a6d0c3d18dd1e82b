# %% [markdown]
# # When things fail
#
# Servers restart, agents crash, a model does not answer. After this notebook you can say what a client does while its
# server is gone, try again without making an outage worse, keep work that failed, bound how long anything takes, stop
# calling what is broken, and end a worker so that nothing is lost.

# %%
import asyncio
import logging
import random
import time

import nats
from lesson import Lesson

import roost
from roost.server import LocalServer

logging.getLogger("roost").addHandler(logging.NullHandler())  # we look at results instead of log lines
lesson = await Lesson.open(
    "When things fail",
    needs={
        "The server is gone": "local servers",
        "Dead letters, timeouts": "jetstream",
        "Tasks of Roost": "agents",
    },
)
s = lesson.subject  # gives the subject to use: on a shared server your prefix comes before it
lesson

# %% [markdown]
# ## Error Handling and Resilience
#
# ### The server is gone, and comes back
#
# This section kills a server, so it starts one of its own. The client reconnects by itself, subscribes again, and
# tells what happens through callbacks. Without callbacks it does the same and logs.

# %%
# needs: local servers
# Handle connection failures: what the client tells
server = await asyncio.to_thread(LocalServer().start)
happened, gone, back = [], asyncio.Event(), asyncio.Event()


async def lost():
    happened.append("connection lost")
    gone.set()


async def found():
    happened.append("connected again")
    back.set()


async def failed(error):
    """Each try to connect that failed ends here."""


callbacks = {"disconnected_cb": lost, "reconnected_cb": found, "error_cb": failed}
far = await nats.connect(server.url, reconnect_time_wait=0.1, max_reconnect_attempts=-1, **callbacks)
inbox = await far.subscribe("agents.news")
await far.publish("agents.news", b"before")
print((await inbox.next_msg(timeout=2)).data.decode(), "-", "connected:", far.is_connected)

# %% [markdown]
# Now the server is killed. What is published meanwhile waits in the client's own buffer (2 MB) and is sent later; a
# request gets no answer and times out. Look at the order of what happened.

# %%
# needs: local servers
# Handle connection failures: publish and request while nobody is there, then the server is back
await asyncio.to_thread(server.kill)
await asyncio.wait_for(gone.wait(), 10)
await far.publish("agents.news", b"published while the server was gone")
try:
    await far.request("agents.weather", b"Oslo", timeout=0.3)
except TimeoutError:
    happened.append("a request timed out")

await asyncio.to_thread(server.restart)
await asyncio.wait_for(back.wait(), 10)
message = await inbox.next_msg(timeout=5)
print(*happened, sep="\n")
print(f"the old subscription got: {message.data.decode()}")
await far.close()

# %% [markdown]
# The subscription works again. But the buffer has two surprises. It is memory of this process: had the process died
# too, the message would be gone, and nobody would have known. And the request was in it as well: it was sent after its
# sender had given up.
#
# Roost buffers nothing. A publish without a connection raises `NotConnected`, which means that nothing was sent. A
# `Task` is work that is stored on the server ([06-jetstream](06-jetstream.ipynb)): `submit` waits for the connection (10 s
# unless you say otherwise), and returns when the server has said that the task is stored. What happens to the connection
# comes as events.

# %%
# needs: local servers
# Handle connection failures: the same with Roost
hello = roost.Task("hello", str, str)
news = roost.Topic("agents.news", str)
events = asyncio.Queue()


async def until(kind):
    while (event := await asyncio.wait_for(events.get(), 10)).kind != kind:
        pass
    print("event:", event.kind)


async with roost.connect(server.url, watch=events.put_nowait) as bus:
    await asyncio.to_thread(server.kill)
    await until("connection_lost")
    try:
        await bus.publish(news, "is anybody there?")
    except roost.NotConnected:
        print("publish: NotConnected, nothing was sent")
    submitting = asyncio.create_task(bus.submit(hello, "ada"))
    await asyncio.to_thread(server.restart)
    await until("reconnected")
    print("submit: waited for the connection; stored:", (await submitting).created)
await asyncio.to_thread(server.stop)

# %% [markdown]
# ### Try again, later each time
#
# Whatever failed a moment ago probably fails at once again. So wait before the next try, twice as long each time
# (*backoff*), and a bit at random (*jitter*), so that a hundred agents that failed together do not come back together.

# %%
# Retry logic: the plain idea, against an agent that is busy three times
nc = await nats.connect(lesson.url)
asked = 0


async def weather(message):
    global asked
    asked += 1
    await message.respond(b"busy" if asked <= 3 else b"sunny")


async def patient(subject, data, attempts=5, base_s=0.1):
    began = time.monotonic()
    for attempt in range(1, attempts + 1):
        answer = (await nc.request(subject, data, timeout=1)).data.decode()
        print(f"attempt {attempt} after {time.monotonic() - began:4.1f} s: {answer}")
        if answer != "busy":
            return answer
        await asyncio.sleep(base_s * 2 ** (attempt - 1) * random.uniform(0.5, 1))
    raise ConnectionError(f"{subject} is still busy after {attempts} attempts")


responder = await nc.subscribe(s("agents.weather"), cb=weather)
await patient(s("agents.weather"), b"Oslo")
await responder.unsubscribe()

# %% [markdown]
# The pauses grow. But the waiting is done in the caller's memory: if the caller dies, so does the work.
#
# A Roost task has this in its contract: `Retry` says how often, how late, and after which errors. The waits are kept
# by the server, so they survive the worker. This handler fails for Oslo three times (and for Atlantis always, which we
# need further down). The picture shows the attempts over time: failed ones, and the waits between.

# %%
# needs: jetstream, agents
# Retry logic: a picture of the attempts over time
forecast = roost.Task("forecast", str, str, retry=roost.Retry(attempts=4, base_s=0.1))
agent = roost.Agent("forecaster")


@agent.handles(forecast)
async def answer(city: str, ctx: roost.Context) -> str:
    await asyncio.sleep(0.1)
    if not city:
        raise roost.Reject("a forecast needs a city")
    if city == "Atlantis" or (city == "Oslo" and ctx.attempt <= 3):
        raise ConnectionError("the weather service is busy")
    return f"sunny in {city}"


async with roost.connect(lesson.url, namespace=lesson.namespace) as bus, bus.serving(agent):
    handle = await bus.submit(forecast, "Oslo", key="oslo")
    print(await handle.result(timeout_s=10))
    picture = await roost.timeline(bus, handle)
picture

# %% [markdown]
# One lane is one instance of the agent. The task waited three times, longer each time, and each wait is a bit random.
#
# ### Dead letters
#
# Some messages can never succeed. A worker may give such a message back to be delivered again (`nak`), but not for ever.
# With a limit alone (`max_deliver`) the server stops delivering it, and nobody hears of it. So after the third failure this
# worker stores it elsewhere, with the reason, **before** it tells the server to stop (`term`). Look for these two in the code.

# %%
# needs: jetstream
# Dead letter queue for failed messages: the plain idea
js = nc.jetstream()
JOBS, DEAD = lesson.stream("JOBS"), lesson.stream("DEAD")
await js.add_stream(name=JOBS, subjects=[s("agents.jobs")])
await js.add_stream(name=DEAD, subjects=[s("agents.dead")])
for job in ["7", "seven", "8"]:
    await js.publish(s("agents.jobs"), job.encode())

worker = await js.pull_subscribe(s("agents.jobs"), durable=lesson.stream("jobs"))
for _ in range(5):  # deliveries: one job is delivered three times
    [job] = await worker.fetch(1, timeout=5)
    text, times = job.data.decode(), job.metadata.num_delivered
    try:
        print(f"{text}: squared it is {int(text) ** 2}")
        await job.ack()
    except ValueError as error:
        print(f"{text}: delivery {times} failed")
        if times < 3:
            await job.nak(delay=0.05)
        else:
            await js.publish(s("agents.dead"), job.data, headers={"Reason": str(error)})
            await job.term()

letter = await js.get_last_msg(DEAD, s("agents.dead"))
print(f"dead letter: {letter.data.decode()!r} because of {letter.headers['Reason']}")

# %% [markdown]
# Had the worker died between the two, the letter would be there twice; the other way round, it might not be there at
# all.
#
# With Roost a task that fails as often as its contract allows becomes a dead letter by itself, with its input, the
# reason and the history. `raise Reject(...)` makes one at once: nothing is gained by trying again.

# %%
# needs: jetstream, agents
# Dead letters: reason and history are kept
async with roost.connect(lesson.url, namespace=lesson.namespace) as bus, bus.serving(agent):
    atlantis = await bus.submit(forecast, "Atlantis", key="atlantis")
    nowhere = await bus.submit(forecast, "", key="nowhere")
    for handle in (nowhere, atlantis):
        letter = (await handle.outcome(timeout_s=20)).letter
        print(f"{handle.key}: dead after {letter.attempts} of 4 attempts: {letter.reason}")
    picture = await roost.timeline(bus, atlantis)
picture

# %% [markdown]
# Dead letters stay until somebody looks. Once the cause is mended they are **replayed**, as they were or with another
# input. The letter stays, and knows of its replay.

# %%
# needs: jetstream, agents
# Dead letters: replay one with a corrected input
async with roost.connect(lesson.url, namespace=lesson.namespace) as bus, bus.serving(agent):
    for letter in await bus.dead_letters(forecast):
        print(f"input {letter.input.decode():<10} last error: {letter.error}")
    replayed = await bus.replay(forecast, nowhere.id, "Bergen")
    print("replayed:", await replayed.result(timeout_s=10))
    print("replays on record:", [len(letter.replays) for letter in await bus.dead_letters(forecast)])

# %% [markdown]
# ### Timeouts and deadlines
#
# An answer that never comes must not hold you for ever. A **timeout** bounds one call or one attempt. A **deadline**
# bounds the whole of a task: waiting, attempts and pauses. Look at how long each of the three took, and what it says.

# %%
# needs: jetstream, agents
# Timeouts: of a request, of an attempt, and the deadline of a task
silent = await nc.subscribe(s("agents.silent"))
began = time.monotonic()
try:
    await nc.request(s("agents.silent"), b"anyone?", timeout=0.3)
except TimeoutError:
    print(f"request: no answer after {time.monotonic() - began:.1f} s")

slow = roost.Task("slow", str, str, attempt_timeout_s=0.2, retry=roost.Retry(attempts=2, base_s=0.1))
urgent = roost.Task("urgent", str, str, deadline_s=0.5)
sloth = roost.Agent("sloth")


@sloth.handles(slow)
@sloth.handles(urgent)
async def never(text: str) -> str:
    return await asyncio.Event().wait()


async with roost.connect(lesson.url, namespace=lesson.namespace) as bus, bus.serving(sloth):
    for task in (slow, urgent):
        began = time.monotonic()
        dead = await (await bus.submit(task, "please")).outcome(timeout_s=20)
        print(f"{task.name}: after {time.monotonic() - began:.1f} s a dead letter: {dead.letter.reason}")

# %% [markdown]
# A request that timed out may still be carried out: the other side does not know that nobody waits any more. A task has
# an outcome instead, here a dead letter that says which time was over.
#
# ### A circuit breaker
#
# When a service is down, each call to it costs a timeout, and the calls keep it down. A **circuit breaker** counts.
# *Closed*: calls go out. When most fail it *opens*: calls fail at once, and nothing goes out. After a while it is
# *half open*: one call goes out as a probe, and decides. Below, the service is down from 0.2 s to 1.2 s. Compare the
# counts with the strip. (`open_s=0.3`: it stays open for up to 0.3 s at first, and longer after a failed probe.)

# %%
# Circuit breaker: its states over time
down, arrived = False, 0


async def service(message):
    global arrived
    arrived += 1
    if not down:
        await message.respond(b"sunny")


responder = await nc.subscribe(s("agents.forecast"), cb=service)
breaker = roost.CircuitBreaker("weather", roost.BreakerPolicy(minimum_calls=4, window_s=0.5, open_s=0.3))
states, results, began_s = [], [], time.time()
breaker.watch(states.append)
while (passed_s := time.time() - began_s) < 1.8 or breaker.state != "closed":
    down = 0.2 < passed_s < 1.2
    try:
        await breaker.call(nc.request, s("agents.forecast"), b"Oslo", timeout=0.1)
        results.append("answered")
    except (TimeoutError, roost.BreakerOpen) as error:
        results.append("refused" if isinstance(error, roost.BreakerOpen) else "timed out")
    await asyncio.sleep(0.05)
print(*(f"{results.count(kind)} {kind}" for kind in ("answered", "timed out", "refused")), sep=", ")
print(f"{len(results)} calls, {arrived} reached the service")
roost.breaker_strip(states, title="Calls to the weather service", began_s=began_s, until_s=time.time())

# %% [markdown]
# While it was open, calls were refused at once instead of waiting for a timeout, and the service got the probes only.
# In Roost an `Endpoint` and a task's handler take the same `breaker=BreakerPolicy()`; a task whose breaker is open is paused on the server, so that
# its work waits instead of dying.
#
# ### Graceful shutdown
#
# An agent that is stopped, for a new version say, should finish what it has begun and take nothing new. With the plain
# client that is `drain`: it ends the subscriptions, lets the handlers work through what has arrived, flushes, and
# closes.

# %%
# Graceful shutdown: drain
worked, begun = [], asyncio.Event()


async def work(message):
    begun.set()
    await asyncio.sleep(0.05)
    worked.append(message.data.decode())


leaving = await nats.connect(lesson.url)
await leaving.subscribe(s("agents.work"), cb=work)
await leaving.flush()
for number in range(5):
    await nc.publish(s("agents.work"), f"job {number}".encode())
await asyncio.wait_for(begun.wait(), 5)
print(f"when drain begins: {len(worked)} of 5 handled, the first one is at work")
await leaving.drain()
print(f"when it has ended: {len(worked)} of 5 handled, connection closed: {leaving.is_closed}")

# %% [markdown]
# `drain` waits as long as the handlers take. With Roost, leaving `bus.serving` gives them `grace_s` seconds: what is
# finished by then has its outcome; what is not is **handed back** to the server, and another worker does it.

# %%
# needs: jetstream, agents
# Graceful shutdown: what is finished, what is handed back
job = roost.Task("job", str, str)
at_work, released = asyncio.Semaphore(0), asyncio.Event()
first, second = roost.Agent("first"), roost.Agent("second")


@first.handles(job, concurrency=2)
@second.handles(job, concurrency=2)
async def do(length: str, ctx: roost.Context) -> str:
    at_work.release()
    await (asyncio.sleep(0.2) if length == "short" else released.wait())
    return ctx.instance.partition("-")[0]


async with roost.connect(lesson.url, namespace=lesson.namespace) as bus:
    handles = {length: await bus.submit(job, length) for length in ("short", "long")}
    async with bus.serving(first, grace_s=0.5):
        await at_work.acquire(), await at_work.acquire()
        print("the first worker is at both jobs, and is stopped now")
    print(f"handed back: {bus.counters['task_handed_back']}")
    released.set()
    async with bus.serving(second):
        for length, handle in handles.items():
            done = await handle.outcome(timeout_s=10)
            print(f"the {length} job was done by the {done.value} worker, attempts: {len(done.history)}")

# %% [markdown]
# The short job was finished within the grace, the long one went to the second worker, and being handed back cost it no
# attempt. `roost up` stops its processes in the same way when it gets a SIGTERM.
#
# ## Exercises
#
# **1.** A service is sometimes busy, for up to two seconds. Write a `roost.Retry` of at most 4 attempts that outlasts it: its
# waits are together at least 2 seconds, and at most 6. With `base_s=0.1` the waits are 0.1, 0.2 and 0.4 s, and jitter may
# shorten each to half of that.

# %% tags=["exercise-1", "quiet"]
answer_1 = ...


# %%
# Check of exercise 1: its shortest and its longest waits
def check_1(answer):
    if not isinstance(answer, roost.Retry):
        return "A roost.Retry is wanted."
    if answer.attempts > 4:
        return f"{answer.attempts} attempts are more than 4."
    waits = range(1, answer.attempts)
    least, most = (sum(answer.delay_s(n, u) for n in waits) for u in (0, 1))
    if least < 2:
        return f"With bad luck its {len(waits)} waits are {least:.1f} s together: too short."
    return most <= 6 or f"Its {len(waits)} waits may be {most:.1f} s together: too long."


await lesson.check(1, answer_1, check_1)

# %% [markdown]
# **2.** The model behind an agent went down and came back. Mend what died meanwhile: write `async def answer_2(bus,
# task)` that replays those dead letters of `task` whose `error` begins with `ConnectionError`, and no others. It
# returns how many.

# %% tags=["exercise-2", "quiet"]
# async def answer_2(bus, task):
answer_2 = ...


# %%
# needs: jetstream, agents
# Check of exercise 2: two tasks die of a ConnectionError and one of a ValueError, then yours replays
async def check_2(answer):
    model_is_up = False
    summary = roost.Task(f"summary-{time.time_ns()}", str, str, retry=roost.Retry(attempts=1))
    summariser = roost.Agent("summariser")

    @summariser.handles(summary)
    async def summarise(text: str) -> str:
        if text == "bad":
            raise ValueError("no text")
        if not model_is_up:
            raise ConnectionError("the model is down")
        return text

    async with roost.connect(lesson.url, namespace=lesson.namespace) as bus, bus.serving(summariser):
        for text in ("good", "bad", "fine"):
            await (await bus.submit(summary, text)).outcome(timeout_s=5)
        model_is_up = True
        said = await answer(bus, summary)
        replayed = [one.error for one in await bus.dead_letters(summary) if one.replays]
    if any("ValueError" in error for error in replayed):
        return "The letter with the ValueError was replayed too; it fails again."
    if len(replayed) < 2:
        return f"{len(replayed)} replayed; two died of a ConnectionError."
    return said == 2 or f"It returned {said!r}; two were replayed."


await lesson.check(2, answer_2, check_2)

# %% [markdown]
# **3.** Write a `roost.BreakerPolicy` that opens after 3 calls if all three failed, but not if one of three did.

# %% tags=["exercise-3", "quiet"]
answer_3 = ...


# %%
# Check of exercise 3: calls fail, and the state is looked at
async def check_3(answer):
    async def one_call(fails):
        if fails:
            raise ConnectionError("down")

    cases = {(False, True, False): "closed", (True, True): "closed", (True, True, True): "open"}
    for fails, wanted in cases.items():
        tried = roost.CircuitBreaker("exercise", answer)
        for each in fails:
            try:
                await tried.call(one_call, each)
            except (ConnectionError, roost.BreakerOpen):
                pass
        if tried.state != wanted:
            return f"After {len(fails)} calls, {sum(fails)} of which failed, it is {tried.state}."
    return True


await lesson.check(3, answer_3, check_3)

# %% [markdown]
# ## Tidy up

# %%
await nc.close()
await lesson.close()

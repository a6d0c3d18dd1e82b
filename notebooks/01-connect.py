# %% [markdown]
# # Connect
#
# After this notebook you can connect a program to a NATS server, say what it is connected to, limit how long it tries
# when nobody answers, follow what becomes of the connection while the program runs, and leave in order.

# %%
import asyncio
import gc
import logging
import os
import time

import nats
from lesson import Lesson
from nats.aio.client import Client as NATS

import roost

logging.getLogger("roost").addHandler(logging.NullHandler())  # we look at events instead of log lines
lesson = await Lesson.open("Connect", needs={"A server that goes and comes back": "local servers"})
s = lesson.subject  # gives the subject to use: on a shared server your prefix comes before it
lesson

# %% [markdown]
# ## Connect to NATS
#
# A program should not have the address of its server written into it: on your machine, in the test and in production
# it is another one. The usual place is the environment variable `NATS_URL`. Here the lesson's own server is taken when
# it is not set.

# %%
# Load NATS_URL from the environment
url = os.environ.get("NATS_URL") or lesson.url
print(
    "NATS_URL is", "set" if os.environ.get("NATS_URL") else "not set, so we take the server of this notebook"
)
print("address:", url.rpartition("@")[2])  # without user and password, if there are any

# %% [markdown]
# A client is an object of the library `nats-py`. It is made first, then connected. `name` is for people: the server's
# administrator sees it in the list of connections.

# %%
# Create a NATS client and connect to the server
client = NATS()
print("connected:", client.is_connected)
await client.connect(url, name="connect-lesson")
print("connected:", client.is_connected)

# %% [markdown]
# `await nats.connect(url, name="...")` does both at once; from here on we write that.
#
# What are we connected to? The server introduces itself at the start of each connection, and the client keeps that.

# %%
# Display the connection status: what the client knows
version = client.connected_server_version
print("connected      ", client.is_connected)
print("server         ", client.connected_url.netloc.rpartition("@")[2])
print(f"version         {version.major}.{version.minor}.{version.patch}")
print("largest message", client.max_payload, "bytes")
print(f"round trip      {await client.rtt() * 1000:.2f} ms")
print("messages so far", client.stats["in_msgs"], "in,", client.stats["out_msgs"], "out")

# %% [markdown]
# The round trip is a question that only the server answers (`PING` and `PONG`). It shows that there is somebody at the
# other end now; `is_connected` only says that the client has not noticed the contrary.
#
# ## The connection card
#
# `roost.connect` gives a *bus*, which is a connection and all that Roost adds to it. Without an address it looks into
# `NATS_URL` by itself. With the *namespace* begins the name of all that Roost stores, so that two systems can share a server.
#
# `bus.status()` asks the server, and the card shows the answer. Also: how much JetStream, the part of the server that
# stores messages, holds and may hold; whether the connection is encrypted (here it is "in clear"); and who we are to the
# server. The long name of the server is an id that it has made up for itself.

# %%
# Display the connection status: Roost's card
async with roost.connect(lesson.url, namespace=lesson.namespace) as bus:
    card = roost.connection_card(await bus.status())
card

# %% [markdown]
# ## When nobody answers
#
# On port 1 of this machine nobody listens. We give the client half a second.

# %%
# Nobody answers: the client's defaults
nobody = "nats://127.0.0.1:1"
began, tries = time.monotonic(), []


async def note_error(error):
    tries.append(time.monotonic() - began)


try:
    async with asyncio.timeout(0.5):
        await nats.connect(nobody, error_cb=note_error)
except TimeoutError:
    print(f"after 0.5 s it had tried {len(tries)} time(s) and was waiting to try again")

# %% [markdown]
# Left alone it would have gone on: it waits `reconnect_time_wait` (2 s) between two tries, and makes
# `max_reconnect_attempts` (60) more after the first. So a program with a wrong address hangs for two minutes. Neither
# `connect_timeout` (the limit of one try) nor `allow_reconnect=False` changes that. These two options do:

# %%
# Nobody answers: tries limited
began, tries = time.monotonic(), []
try:
    await nats.connect(nobody, error_cb=note_error, max_reconnect_attempts=2, reconnect_time_wait=0.1)
except nats.errors.NoServersError as error:
    print(f"{type(error).__name__}: {error}")
print("tries at", ", ".join(f"{at_s:.1f} s" for at_s in tries))

# %% [markdown]
# Three tries: the first, and two more. Mind that `max_reconnect_attempts` also counts later, when a connection is
# lost: with 2 the client gives up for good soon after its server has gone. A program that should live through that
# sets it to -1 (for ever) and puts `asyncio.timeout` around the first `connect`, as we did above.
#
# Roost does it that way: `connect_timeout_s` is the limit of the first connection and counts in seconds; after that
# it never gives up. Its error says what was tried and what to check.

# %%
# Nobody answers: Roost's ConnectError
began = time.monotonic()
try:
    async with roost.connect(nobody, connect_timeout_s=0.5) as bus:
        pass
except roost.ConnectError as error:
    print(f"{type(error).__name__}: {error}")
print(f"it took {time.monotonic() - began:.1f} s")

# %% [markdown]
# ## A server that goes and comes back
#
# Connections are lost: a server is updated, a network fails. The client notices, tries to connect again, and tells
# your functions about it. We start a server that we may kill, and follow both.

# %%
# needs: local servers
# The life of a connection: callbacks of the plain client
from roost.server import LocalServer

server = await asyncio.to_thread(LocalServer().start)
happenings = asyncio.Queue()


async def on_lost():
    happenings.put_nowait("the connection is lost")


async def on_back():
    happenings.put_nowait("connected again")


async def on_closed():
    happenings.put_nowait("closed, this is the end")


told = dict(disconnected_cb=on_lost, reconnected_cb=on_back, closed_cb=on_closed, error_cb=note_error)
worker = await nats.connect(server.url, max_reconnect_attempts=-1, reconnect_time_wait=0.1, **told)
inbox = await worker.subscribe("agents.tasks")
print("client:  connected, and subscribed to agents.tasks")

# %% [markdown]
# Now the server is killed. Meanwhile the program publishes a message. Then the server is started again. What becomes
# of the subscription, and of the message?

# %%
# needs: local servers
# The life of a connection: the server is killed and comes back
await asyncio.to_thread(server.kill)
print("client: ", await asyncio.wait_for(happenings.get(), 5))
await worker.publish("agents.tasks", b"published while there was no server")
print("program: published a message, and no error came")
await asyncio.to_thread(server.restart)
print("client: ", await asyncio.wait_for(happenings.get(), 5))
message = await inbox.next_msg(timeout=5)
print("program: received a message:", message.data.decode())
print("program: closes the connection")
await worker.close()
for _ in range(2):
    print("client: ", await asyncio.wait_for(happenings.get(), 5))

# %% [markdown]
# The client connected and subscribed again by itself. (It calls `disconnected_cb` also when we close; `closed_cb` says
# that this was the end.)
#
# The message had waited in the client's memory (up to 2 MB do). That is comfortable and treacherous: `publish` returned,
# and if the *program* had ended before the server came back, the message would have been lost without a word.
#
# Roost tells of the same as events. And while there is no connection it refuses to send: an error at once, and you know
# that nothing was sent. The `Topic` below is a subject and the type of its messages; the next notebook has more of it.

# %%
# needs: local servers
# The life of a connection: events of Roost
happened = {kind: asyncio.Event() for kind in ("connected", "connection_lost", "reconnected", "closed")}


def on_event(event):
    if event.kind in happened and not happened[event.kind].is_set():
        print("event:", event.kind)
        happened[event.kind].set()


tasks = roost.Topic("agents.tasks", str)
async with roost.connect(server.url, watch=on_event) as bus:
    await asyncio.to_thread(server.kill)
    await asyncio.wait_for(happened["connection_lost"].wait(), 5)
    try:
        await bus.publish(tasks, "read chapter 1")
    except roost.NotConnected as error:
        print("NotConnected:", error)
    await asyncio.to_thread(server.restart)
    await asyncio.wait_for(happened["reconnected"].wait(), 10)
await asyncio.to_thread(server.stop)

# %% [markdown]
# ## Leave in order
#
# `close` ends a connection now: what has arrived and not been handled yet is dropped, and a handler at work is broken
# off. `drain` first stops new messages, waits until those that are there have been handled, and closes then. A slow
# handler gets five messages, and the connection is ended when it has begun with the first: once by `close`, once by `drain`.


# %%
# Close the connection: close() and drain()
async def leave(how):
    handled, begun = [], asyncio.Event()

    async def handler(message):
        begun.set()
        await asyncio.sleep(0.02)  # stands for work
        handled.append(message.data)

    leaving = await nats.connect(url)
    await leaving.subscribe(s("agents.slow"), cb=handler)
    for _ in range(5):
        await leaving.publish(s("agents.slow"), b"task")
    await leaving.flush()
    await begun.wait()
    await getattr(leaving, how)()
    print(f"{how + '()':8} {len(handled)} of 5 messages were handled; closed: {leaving.is_closed}")


await leave("close")
await leave("drain")

# %% [markdown]
# So end a program with `drain`. With Roost the end of the `async with` block does it: agents take no new work, finish
# what they have begun, and the connection is closed then ([08-when-things-fail](08-when-things-fail.ipynb)).
#
# ## Exercises
#
# **1.** Give the options (a `dict`) with which `nats.connect` gives up within one second when nobody answers.

# %% tags=["exercise-1", "quiet"]
answer_1 = ...


# %%
# Check of exercise 1: connects to where nobody is
async def gives_up(options):
    try:
        async with asyncio.timeout(1.5):
            await nats.connect(nobody, error_cb=note_error, **options)
    except nats.errors.NoServersError:
        return True
    except TimeoutError:
        return "It was still trying. How often does it try (0 is for ever), and how long does it wait between two tries?"


await lesson.check(1, answer_1, gives_up)

# %% [markdown]
# **2.** Write `async def answer_2(url)`: it returns the version of the server there, such as `"2.15.1"`, and leaves no
# connection open.

# %% tags=["exercise-2", "quiet"]
answer_2 = ...


# %%
# Check of exercise 2: is it the version, and how many connections are open afterwards?
def connections():
    return sum(type(one) is NATS and one.is_connected for one in gc.get_objects())


async def asks_version(ask):
    before = connections()
    told = await ask(url)
    if connections() > before:
        return "A connection is still open."
    wanted = f"{version.major}.{version.minor}.{version.patch}"
    return told == wanted or f"It returned {told!r}; a text such as {wanted!r} was asked for."


await lesson.check(2, answer_2, asks_version)

# %% [markdown]
# **3.** Two servers are named in your configuration: `nobody`, which is down, and `url`. What do you give to
# `roost.connect` so that it takes the one that answers?

# %% tags=["exercise-3", "quiet"]
answer_3 = ...


# %%
# Check of exercise 3: connects there
async def finds_one(servers):
    if nobody not in servers:
        return "Name both: you cannot know beforehand which of them is down."
    try:
        async with roost.connect(servers) as bus:
            return (await bus.status()).rtt_s > 0
    except roost.ConnectError:
        return "It found nobody."
    except (roost.ConfigError, TypeError, AttributeError):
        return "One text with both addresses is wanted, with a comma between them."


await lesson.check(3, answer_3, finds_one)

# %% [markdown]
# Next: [02-publish-subscribe](02-publish-subscribe.ipynb).

# %%
await client.drain()
await lesson.close()

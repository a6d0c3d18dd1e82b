# %% [markdown]
# # Good practice
#
# Seven habits keep a system of agents in order. After this notebook you have seen each of them at work, and for most
# of them also what happens without. The agents here deal with invoices, since nobody likes to pay twice.

# %%
import asyncio
import logging
import time

import nats
from lesson import Lesson
from nats.js.api import ConsumerConfig
from nats.js.errors import KeyWrongLastSequenceError
from pydantic import BaseModel, Field, ValidationError

import roost
from roost.server import LocalServer

logging.getLogger("roost").addHandler(logging.NullHandler())  # we look at events instead of log lines
lesson = await Lesson.open(
    "Good practice",
    needs={
        "Schemas and tasks in Roost": "agents",
        "Idempotent handlers, persistence": "jetstream",
        "Disconnections": "local servers",
    },
)
s = lesson.subject
client = await nats.connect(lesson.url, name="clerk")
lesson

# %% [markdown]
# ## Use meaningful subject hierarchies
#
# A subject is what listeners choose by. Give each word one meaning, from the general to the particular, always at the
# same place; here `invoices.<region>.<agent>.<event>`. Then each question that somebody may have is one pattern. Had
# we written `payer1-north-paid`, one word, nobody could ask for all of the north.

# %%
# Subject hierarchies: four listeners, each with a question of its own
patterns = {
    "ledger": s("invoices.*.*.paid"),
    "alarm": s("invoices.*.*.failed"),
    "head of north": s("invoices.north.>"),
    "friend of payer2": s("invoices.*.payer2.*"),
}
events = ["north.clerk1.received", "north.payer1.paid", "south.payer2.paid", "south.payer2.failed"]
messages = [s(f"invoices.{event}") for event in events]
subscriptions = {name: await client.subscribe(pattern) for name, pattern in patterns.items()}
for subject in messages:
    await client.publish(subject)
async with roost.connect(lesson.url, namespace=lesson.namespace) as bus:
    explained = [await bus.explain(subject) for subject in messages] if lesson.has("trace") else []
await client.flush()
arrived = []
for name, subscription in subscriptions.items():
    arrived += [((await subscription.next_msg()).subject, name) for _ in range(subscription.pending_msgs)]
    await subscription.unsubscribe()
roost.delivery_matrix(patterns, messages, arrived, explained, title="Four events, four questions")

# %% [markdown]
# [03-subjects](03-subjects.ipynb) has the rules. What varies without end, such as an amount, belongs into the
# message.
#
# ## Add JSON schema validation for messages
#
# NATS carries bytes and does not look into them. So a handler first checks what it got, against a *schema*: which
# fields there are, of which type, within which bounds. In Python a pydantic model is that schema. The one who sent a
# broken message should be told, with the reason.


# %%
# Schema validation: a refused message, with the plain client
class Invoice(BaseModel):
    id: str
    customer: str
    cents: int = Field(gt=0)


async def take(message):
    try:
        invoice = Invoice.model_validate_json(message.data)
    except ValidationError as error:
        reasons = "; ".join(f"{'.'.join(one['loc']) or 'all of it'}: {one['msg']}" for one in error.errors())
        await message.respond(f"refused, {reasons}".encode())
    else:
        await message.respond(f"taken, {invoice.id} of {invoice.cents} cents".encode())


payer = await nats.connect(lesson.url, name="payer")
await payer.subscribe(s("invoices.check"), cb=take)
await payer.flush()
for data in ('{"id": "inv-1", "customer": "ada", "cents": 1250}', '{"id": "inv-2", "cents": -5}', "12.50"):
    reply = await client.request(s("invoices.check"), data.encode(), timeout=5)
    print(f"{data:50} {reply.data.decode()}")

# %% [markdown]
# For programs in other languages, `Invoice.model_json_schema()` is the same as a JSON schema.
#
# In Roost the model is part of the contract, so both sides check. The sender's mistake is raised where it was made,
# and nothing is sent. What comes from elsewhere and does not fit reaches no handler; it is counted and told as an
# event.

# %%
# needs: agents
# Schema validation: refused by Roost on both sides
received = roost.Topic(s("invoices.{region}.{agent}.received"), Invoice)
desk, taken, refused = roost.Agent("desk"), asyncio.Queue(), asyncio.Queue()


@desk.handles(received)
async def note(invoice: Invoice) -> None:
    taken.put_nowait(invoice)


async with roost.connect(lesson.url, namespace=lesson.namespace) as bus, bus.serving(desk):
    bus.watch(refused.put_nowait)
    await client.publish(s("invoices.north.clerk1.received"), b'{"id": "inv-2", "cents": -5}')
    event = await asyncio.wait_for(refused.get(), 5)
    print(f"{event.kind}, {bus.counters['message_refused']} counted:", event.reason.replace(s(""), ""))
    there = received.at(region="north", agent="clerk1")
    try:
        await bus.publish(there, "12.50")
    except roost.InvalidMessage as error:
        print("not sent:", str(error).replace(s(""), ""))
    await bus.publish(there, Invoice(id="inv-1", customer="ada", cents=1250))
    print("taken:", await asyncio.wait_for(taken.get(), 5))

# %% [markdown]
# ## Implement idempotent message handlers
#
# A stream delivers *at least once*: a worker that dies after the work and before its ack gets the message again. A
# handler is **idempotent** if the second time does no harm. The next function has three invoices paid by a handler;
# the worker "dies" once, after it has paid `inv-2`.


# %%
# needs: jetstream
# A worker that dies once between the work and the ack
js = client.jetstream()


async def pay_three(name, handler):
    stream, subject, lines = lesson.stream(name), s(f"payments.{name}"), []
    await js.add_stream(name=stream, subjects=[subject])
    for number in (1, 2, 3):
        invoice = Invoice(id=f"inv-{number}", customer="ada", cents=number * 1000)
        await js.publish(subject, invoice.model_dump_json().encode())
    config = ConsumerConfig(ack_wait=0.3)  # seconds until a message without ack is given out again
    due = await js.pull_subscribe(subject, durable=lesson.stream("payer"), stream=stream, config=config)
    done = 0
    while done < 3:
        [message] = await due.fetch(1, timeout=5)
        invoice, delivery = Invoice.model_validate_json(message.data), message.metadata.num_delivered
        lines.append(f"{invoice.id}, delivery {delivery}: {await handler(invoice)}")
        if invoice.id == "inv-2" and delivery == 1:
            lines.append("       here the worker dies")
        else:
            await message.ack_sync()
            done += 1
    await js.delete_stream(stream)
    return lines


print("three invoices, 6000 cents together")

# %%
# needs: jetstream
# Idempotent handler: without
spent = 0


async def pay_naively(invoice):
    global spent
    spent += invoice.cents
    return f"{invoice.cents} cents are paid"


print(*await pay_three("NAIVE", pay_naively), sep="\n")
print("paid in all:", spent, "of 6000 cents")

# %% [markdown]
# 2000 cents too many, and no error anywhere. The remedy: each payment has a name, the invoice's id, and there can be
# only one of a name. A *key-value bucket* of NATS has that: `create` writes a key unless it is there. Writing it
# **is** the payment here, so there is no moment between the two at which one could die.

# %%
# needs: jetstream
# Idempotent handler: with
book = await js.create_key_value(bucket=lesson.stream("BOOK"))


async def pay_once(invoice):
    try:
        await book.create(invoice.id, str(invoice.cents).encode())
        return f"{invoice.cents} cents are paid"
    except KeyWrongLastSequenceError:
        return "was paid before"


print(*await pay_three("ONCE", pay_once), sep="\n")
paid = [int((await book.get(key)).value) for key in await book.keys()]
print("paid in all:", sum(paid), "of 6000 cents")
print("the bucket is removed:", await js.delete_key_value(lesson.stream("BOOK")))

# %% [markdown]
# If the effect is somewhere else, as with a bank, two steps cannot be one: give the name to the other side (banks
# call it the *idempotency key*), and let it refuse the second payment.
#
# A task in Roost has such a name. `ctx.idempotency_key` is the same in each attempt, whichever worker makes it. In
# the cell below the bank pays, but its first answer is lost; and the same invoice is submitted twice.

# %%
# needs: jetstream, agents
# Idempotent handler: the key of a Roost task
pay = roost.Task("pay", Invoice, int, retry=roost.Retry(base_s=0.1))
cashier, bank, attempts = roost.Agent("cashier"), {}, []


@cashier.handles(pay)
async def transfer(invoice: Invoice, ctx: roost.Context) -> int:
    attempts.append(ctx.attempt)
    bank.setdefault(ctx.idempotency_key, invoice.cents)  # the bank pays once for each key
    if ctx.attempt == 1:
        raise ConnectionError("the bank's answer was lost")
    return bank[ctx.idempotency_key]


invoice = Invoice(id="inv-7", customer="ada", cents=700)
async with roost.connect(lesson.url, namespace=lesson.namespace) as bus, bus.serving(cashier):
    handles = [await bus.submit(pay, invoice, key=invoice.id) for _ in range(2)]
    results = [await handle.result(timeout_s=10) for handle in handles]
print(f"submitted {len(handles)} times, results {results}")
print(f"the handler ran {len(attempts)} times, the bank paid {len(bank)} time: {sum(bank.values())} cents")

# %% [markdown]
# ## Use queue groups for scalability
#
# Three payers in one queue group share the work; a fourth would need no change anywhere. Each says on
# `invoices.<region>.<agent>.paid` what it has paid, and a ledger and an auditor listen to that. Two of the 200
# invoices need a longer look. Who sent what to whom is noted for the section after the next, and so is how long it took.

# %%
# Queue groups: three payers share 200 invoices
hops, took_s, booked, agents = [], [], asyncio.Queue(), [payer]


async def start(name, subject, handler, queue=""):
    agents.append(own := await nats.connect(lesson.url, name=name))

    async def handle(message):
        hops.append((message.headers["By"], lesson.bare(message.subject), name))
        await handler(own, message)

    await own.subscribe(s(subject), queue=queue, cb=handle)
    await own.flush()


def payer_named(name):
    async def handle(own, message):
        await asyncio.sleep(0.03 if int(message.data) in (50, 150) else 0.001)  # the work
        headers = {"By": name, "Sent": message.headers["Sent"]}
        await own.publish(s(f"invoices.north.{name}.paid"), message.data, headers=headers)

    return handle


async def enter(own, message):
    booked.put_nowait(message.headers["By"])
    took_s.append(time.perf_counter() - float(message.headers["Sent"]))


async def look_at(own, message):
    booked.put_nowait("seen")


for name in ("payer1", "payer2", "payer3"):
    await start(name, "invoices.north.due", payer_named(name), queue="payers")
await start("ledger", "invoices.*.*.paid", enter)
await start("auditor", "invoices.*.*.paid", look_at)
for number in range(200):
    headers = {"By": "clerk", "Sent": str(time.perf_counter())}
    await client.publish(s("invoices.north.due"), str(number).encode(), headers=headers)
    await asyncio.sleep(0.002)
entered = [await asyncio.wait_for(booked.get(), 10) for _ in range(400)]
roost.load_picture([by for by in entered if by != "seen"], title="Who paid how many", unit="invoices")

# %% [markdown]
# [05-queue-groups](05-queue-groups.ipynb) adds and removes workers while it runs.
#
# ## Enable persistence for critical messages
#
# Who is away misses what is published meanwhile, unless a stream keeps it. Three reminders are published on each of
# two subjects while nobody listens. Then a reader comes.

# %%
# needs: jetstream
# Persistence: what a reader gets that was away
KEPT = lesson.stream("REMINDERS")
await js.add_stream(name=KEPT, subjects=[s("reminders.kept")])
for number in (1, 2, 3):
    await client.publish(s("reminders.plain"), f"reminder {number}".encode())
    await js.publish(s("reminders.kept"), f"reminder {number}".encode())  # waits until it is stored

plain = await client.subscribe(s("reminders.plain"))
kept = await js.subscribe(s("reminders.kept"), ordered_consumer=True)
await client.publish(s("reminders.plain"), b"end")  # a last one, to know that nothing else comes
texts = []
while not texts or texts[-1] != "end":
    texts.append((await plain.next_msg(timeout=5)).data.decode())
print("without a stream:", texts[:-1])
print("with a stream:   ", [(await kept.next_msg(timeout=5)).data.decode() for _ in range(3)])
for subscription in (plain, kept):
    await subscription.unsubscribe()
print("stream removed:", await js.delete_stream(KEPT))

# %% [markdown]
# Storing costs a disk and some time for each message. So keep what must be done (orders, payments, results), and let
# pass what the next message corrects anyway (status, progress). [06-jetstream](06-jetstream.ipynb) has more; a `Task`
# of Roost is always stored.
#
# ## Monitor message flow and latency
#
# Two questions to a running system: what goes where, and how long does it take? The payers above noted both. First
# the flow: lines are as thick as what went along them.

# %%
# Message flow: who sent what to whom
roost.flow_picture(hops, title="200 invoices from the clerk to the ledger and the auditor")

# %% [markdown]
# Each invoice reached one payer (a queue group), and each payment two listeners (which are none). A subject that goes
# to nobody, or an agent from which nothing comes, would be seen here.
#
# Now the time from the clerk's `publish` until the ledger had it. The clerk put the time into a header of its message
# and the payer passed it on. (Between machines the clocks have to agree; else measure requests, there and back.) Look
# at how far p99 is from p50.

# %%
# Latency distribution: p50, p95 and p99
latency = roost.latency_picture(took_s, title="From the clerk to the ledger")
spread = latency.spreads[""]
print(f"p50 {spread.p50_s * 1000:.1f} ms, p95 {spread.p95_s * 1000:.1f} ms, p99 {spread.p99_s * 1000:.1f} ms")
print(f"the mean is {sum(took_s) / len(took_s) * 1000:.1f} ms")
latency

# %% [markdown]
# Most invoices are through quickly. Only two needed a longer look, but those that were behind one of them in the same
# payer waited as well: that is the tail. The mean lies between and tells neither; so write down percentiles, and be
# warned by p99.
#
# On a running system Roost counts and times by itself: `bus.counters`, `bus.watch`, and at the command line `roost
# agents`, `roost tasks` and `roost doctor` ([operations](../docs/operations.md)).
#
# ## Handle disconnections gracefully
#
# Servers are restarted. Four things belong together, and the cell below has them all: the client tries for ever; the
# program is told, and **pauses** instead of failing again and again; what matters is published with an
# acknowledgement and **repeated** until there is one; and each message has an id, so that repeating does no harm. The
# server is killed after the tenth of 20 invoices.

# %%
# needs: local servers
# Disconnections: pause, connect again, repeat what was not acknowledged
told, ready = [], asyncio.Event()


async def on_lost():
    told.append("connection lost: pausing")
    ready.clear()


async def on_back():
    told.append("connected again: going on")
    ready.set()


async def on_error(error):
    """Called for each try to connect that failed."""


server = await asyncio.to_thread(LocalServer().start)
callbacks = dict(disconnected_cb=on_lost, reconnected_cb=on_back, error_cb=on_error)
sender = await nats.connect(server.url, max_reconnect_attempts=-1, reconnect_time_wait=0.1, **callbacks)
ready.set()
store = sender.jetstream(timeout=0.5)
await store.add_stream(name="PAID", subjects=["paid"])
for number in range(1, 21):
    if number == 11:
        await asyncio.to_thread(server.kill)
        restarting = asyncio.create_task(asyncio.to_thread(server.restart))
    while True:
        await ready.wait()
        try:
            await store.publish("paid", b"%d" % number, headers={"Nats-Msg-Id": f"inv-{number}"})
            break
        except (nats.errors.Error, nats.js.errors.Error):
            pass  # not acknowledged: again
await restarting
stored = [int((await store.get_msg("PAID", seq=place)).data) for place in range(1, 21)]
print(*told, sep="\n")
print("stored, each once and in order:", stored == list(range(1, 21)))
await sender.close()
await asyncio.to_thread(server.stop)

# %% [markdown]
# With Roost, `bus.submit` waits for the connection and repeats by itself, and `bus.publish` raises `NotConnected`
# instead of keeping the message in memory. [08-when-things-fail](08-when-things-fail.ipynb) shows both, and an
# orderly end.
#
# ## Exercises
#
# **1.** Write the schema of a refund: a model with `invoice`, a text; `cents`, a whole number from 1 to 100000; and
# `reason`, a text that may be left out and is empty then.

# %% tags=["exercise-1", "quiet"]
answer_1 = ...


# %%
# needs: agents
# Check of exercise 1: six messages are published on a topic with your model
async def refuses(model):
    topic, agent, ends = roost.Topic(s("exercise.refunds"), model), roost.Agent("refunder"), asyncio.Queue()

    @agent.handles(topic)
    async def handle(refund) -> None:
        ends.put_nowait("taken")

    cases = {
        '{"invoice": "inv-1", "cents": 1}': "taken",
        '{"invoice": "inv-1", "cents": 100000, "reason": "broken"}': "taken",
        '{"invoice": "inv-1", "cents": 0}': "refused",
        '{"invoice": "inv-1", "cents": 100001}': "refused",
        '{"invoice": "inv-1", "cents": 1.5}': "refused",
        '{"cents": 1}': "refused",
    }
    async with roost.connect(lesson.url, namespace=lesson.namespace) as bus, bus.serving(agent):
        bus.watch(lambda event: ends.put_nowait("refused") if event.kind == "message_refused" else None)
        for data, wanted in cases.items():
            await client.publish(topic.subject, data.encode())
            if (found := await asyncio.wait_for(ends.get(), 5)) != wanted:
                return f"{data} was {found}."
    least = model.model_validate({"invoice": "inv-1", "cents": 1})
    return getattr(least, "reason", None) == "" or "`reason` should be an empty text when it is left out."


await lesson.check(1, answer_1, refuses)

# %% [markdown]
# **2.** An agent adds up what each customer has to pay. Write `async def answer_2(invoice, totals, seen)`: it adds
# `invoice.cents` to `totals[invoice.customer]` (`totals` is a `dict`, empty at first), but only once for each
# `invoice.id`; `seen` is a `set` for you to use.

# %% tags=["exercise-2", "quiet"]
answer_2 = ...


# %%
# needs: jetstream
# Check of exercise 2: `pay_three` delivers one of three invoices twice
async def adds_once(function):
    totals, seen = {}, set()

    async def handle(invoice):
        await function(invoice, totals, seen)

    await pay_three("EXERCISE", handle)
    await function(Invoice(id="inv-9", customer="bob", cents=1000), totals, seen)
    if totals.get("ada") == 8000:
        return "An invoice was counted twice: 8000 cents for ada instead of 6000."
    wanted = {"ada": 6000, "bob": 1000}
    return totals == wanted or f"The totals are {totals}; they should be {wanted}."


await lesson.check(2, answer_2, adds_once)

# %% [markdown]
# **3.** Of 1,000 requests 985 took 2 ms each, and 15 took 2 s each. What are p50, p95 and p99, in seconds? Give a
# tuple of three numbers.

# %% tags=["exercise-3", "quiet"]
answer_3 = ...


# %%
# Check of exercise 3: it is computed from the 1,000 samples
def percentiles(answer):
    found = roost.latency_picture([0.002] * 985 + [2.0] * 15).spreads[""]
    if not isinstance(answer, tuple) or len(answer) != 3:
        return "A tuple of three numbers is wanted."
    right = {"p50": found.p50_s, "p95": found.p95_s, "p99": found.p99_s}
    for name, given in zip(right, answer, strict=True):
        if given != right[name]:
            return f"{name} is the time that {name[1:]} of 100 requests did not exceed. It is not {given} s."
    return True


await lesson.check(3, answer_3, percentiles)

# %% [markdown]
# ## What was shown
#
# - Words of a subject in a fixed order make each question one pattern.
# - A schema refuses what is broken before it does harm, and says why.
# - Messages come twice; a name for each effect makes that harmless.
# - Queue groups share work; streams keep what must not be missed.
# - Look at the flow and at p99, not at the mean.
# - Pause while there is no connection, and repeat what was not acknowledged, with the same id.
#
# Next: [10-an-agent-that-thinks](10-an-agent-that-thinks.ipynb).

# %%
for connection in (client, *agents):
    await connection.close()
await lesson.close()

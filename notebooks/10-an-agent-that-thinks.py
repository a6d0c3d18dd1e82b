# %% [markdown]
# # An agent that thinks
#
# A language model can decide which tools it needs to answer a question. After this notebook you can build an agent
# around such a model, give it other agents as its tools, put it behind a task or a streamed answer, and say what the
# messaging gives it that a library for language models does not.
#
# The agent is made with [pydantic-ai](https://ai.pydantic.dev). Its model is a small one of our own unless you name
# another, so the notebook needs no key and no network: see [small_model.py](small_model.py). For a real model, set
# `ROOST_MODEL` to a name that pydantic-ai knows (such as `openai:gpt-5-mini`) and the key that it asks for
# (`OPENAI_API_KEY`), install its client (`pip install "pydantic-ai-slim[openai]"`), and start the kernel again.

# %%
import asyncio
import json
import logging
import re
import time
from collections.abc import AsyncIterator

import nats
import pydantic_ai
from lesson import Lesson
from pydantic import BaseModel
from pydantic_ai import RunContext
from small_model import choose_model

import roost

logging.getLogger("roost").addHandler(logging.NullHandler())  # we look at results instead of log lines
lesson = await Lesson.open(
    "An agent that thinks",
    needs={"As a streaming endpoint": "agents", "Behind a task, Affinity": "jetstream"},
)
s = lesson.subject
lesson

# %% [markdown]
# ## The idea: a model that asks for tools
#
# A model gets a conversation and a list of tools, and answers with words or with *tool calls*: "please call
# `temperature` with Oslo". The library carries out the calls, adds the results to the conversation and asks the model
# again, until it answers in words. That loop is all that an agent is. Below, the tool is a plain function.

# %%
# The thinking loop: a question, tool calls, results, an answer
model = choose_model()
alone = pydantic_ai.Agent(model, instructions="Answer briefly. Use the tools for every number.")


@alone.tool_plain
def temperature(city: str) -> float:
    """The temperature in a city now, in degrees Celsius."""
    return {"Oslo": 4.0, "Cairo": 31.0}[city]


async def ask(thinker, question, **options):
    async with thinker.run_stream(question, **options) as run:
        text = await run.get_output()
    for part in (part for message in run.all_messages() for part in message.parts):
        shown = part.args if part.part_kind == "tool-call" else part.content
        print(f"{part.part_kind:<12}", getattr(part, "tool_name", ""), shown)
    return text


print("model:", getattr(model, "model_name", model))
answer = await ask(alone, "Is it warmer in Oslo or in Cairo?")

# %% [markdown]
# Nobody told the agent to call `temperature`, or for which cities: the model decided that from the question.
#
# ## The tools are other agents, in plain NATS
#
# A function in the same process is enough for a toy. Real tools have owners, dependencies and loads of their own: they
# are better off as agents. With NATS a tool is a subject on which somebody replies, and to call it is a request. Here
# are two, the second one calculates.

# %%
# Two tool agents that reply on subjects of their own
hops = []


def degrees_in(city):
    return {"Oslo": 4.0, "Cairo": 31.0, "Rome": 19.0, "Paris": 12.0}.get(city, 15.0)


def calculated(expression):
    left, sign, right = re.fullmatch(r"(-?[\d.]+) *([-+]) *(-?[\d.]+)", expression.strip()).groups()
    return float(left) + float(right) * (-1 if sign == "-" else 1)


async def start_tool(name, subject, work):
    own = await nats.connect(lesson.url, name=name)

    async def reply(message):
        result = work(json.loads(message.data))
        hops.append(("thinker", lesson.bare(message.subject), name))
        await message.respond(json.dumps(result).encode())

    await own.subscribe(s(subject), queue=name, cb=reply)
    await own.flush()
    return own


thermometer = await start_tool("thermometer", "tools.temperature", degrees_in)
calculator = await start_tool("calculator", "tools.calculate", calculated)
print("listening: tools.temperature, tools.calculate")

# %%
# A thinking agent whose tools are requests
plain = pydantic_ai.Agent(model, instructions="Answer briefly. Use the tools for every number.")
client = await nats.connect(lesson.url, name="thinker")


async def call(subject, value):
    return json.loads((await client.request(s(subject), json.dumps(value).encode(), timeout=2)).data)


@plain.tool_plain
async def temperature(city: str) -> float:
    """The temperature in a city now, in degrees Celsius."""
    return await call("tools.temperature", city)


@plain.tool_plain
async def calculate(expression: str) -> float:
    """The value of a sum or a difference of two numbers, such as 7 - 2."""
    return await call("tools.calculate", expression)


question = "Is it warmer in Oslo or in Cairo, and by how much?"
answer = await ask(plain, question)

# %% [markdown]
# The model needed three calls, and the third one only when it had the results of the first two. The picture shows them,
# as the tool agents saw them.

# %%
# The tool calls on the bus
roost.flow_picture(hops, title="Tool calls as requests on subjects")

# %% [markdown]
# What happens when a tool agent is away in the middle of it?

# %%
# What goes wrong: a tool agent is away
await calculator.close()
hops.clear()
try:
    await ask(plain, question)
except nats.errors.NoRespondersError:
    print(f"nobody replies on tools.calculate: all is lost, after {len(hops)} tool calls that worked")
await thermometer.close()
await client.close()

# %% [markdown]
# The whole thinking is thrown away, and with it the question: it was in the memory of a process. With a real model it has
# also cost money. The same happens when the process dies, and it takes minutes rather than milliseconds.
#
# ## With Roost: contracts
#
# The same tools as `Endpoint`s, and the thinking agent in two ways: as a `StreamEndpoint` for somebody who waits for the
# answer now, and as a `Task` for an answer that must come, whatever dies.


# %%
# Contracts: two tools, the streamed answer, the task
class Question(BaseModel):
    text: str
    conversation: str = ""


class Answer(BaseModel):
    text: str


temperature_of = roost.Endpoint("temperature", str, float)
value_of = roost.Endpoint("calculate", str, float)
chat = roost.StreamEndpoint("chat", Question, str)
research = roost.Task("research", Question, Answer, retry=roost.Retry(attempts=5, base_s=0.2))

thermometer, calculator = roost.Agent("thermometer"), roost.Agent("calculator")


@thermometer.handles(temperature_of)
async def look_up(city: str, ctx: roost.Context) -> float:
    hops.append(("thinker", temperature_of.name, ctx.instance.partition("-")[0]))
    return degrees_in(city)


@calculator.handles(value_of)
async def work_out(expression: str, ctx: roost.Context) -> float:
    hops.append(("thinker", value_of.name, ctx.instance.partition("-")[0]))
    return calculated(expression)


print("two agents that are tools, four contracts")

# %% [markdown]
# The thinking agent: what pydantic-ai calls `deps` is the context of the handler. So the tools ask through it, and no
# request of theirs takes longer than the handler itself has left.

# %%
# The thinking agent: its tools are requests to other agents
mind = pydantic_ai.Agent(
    model, deps_type=roost.Context, instructions="Answer briefly. Use the tools for every number."
)


@mind.tool
async def temperature(run: RunContext[roost.Context], city: str) -> float:
    """The temperature in a city now, in degrees Celsius."""
    return await run.deps.request(temperature_of, city)


@mind.tool
async def calculate(run: RunContext[roost.Context], expression: str) -> float:
    """The value of a sum or a difference of two numbers, such as 7 - 2."""
    return await run.deps.request(value_of, expression)


async def think(question: Question, ctx: roost.Context) -> AsyncIterator[str]:
    """The answer in the pieces in which the model gives it."""
    async with mind.run_stream(question.text, deps=ctx) as run:
        async for piece in run.stream_text(delta=True, debounce_by=None):
            yield piece


print("tools that the model may call: temperature, calculate")

# %% [markdown]
# ## As a streaming endpoint
#
# The handler yields each piece as it comes, and the caller reads along. Each bar is a border between two pieces, and
# each piece is one message. Look at the two times below.

# %%
# needs: agents
# A StreamEndpoint: tokens as they come
thinker = roost.Agent("thinker")


@thinker.handles(chat)
async def talk(question: Question, ctx: roost.Context) -> AsyncIterator[str]:
    hops.append(("you", chat.name, "thinker"))
    async for piece in think(question, ctx):
        yield piece


def connect():
    return roost.connect(lesson.url, namespace=lesson.namespace)


hops.clear()
async with connect() as bus, bus.serving(thermometer, calculator, thinker):
    came_s, began_s = [], time.monotonic()
    async with bus.stream(chat, Question(text=question)) as pieces:
        async for piece in pieces:
            came_s.append(time.monotonic() - began_s)
            print(piece, end="|")
print(f"\nfirst piece after {came_s[0] * 1000:.0f} ms, last one after {came_s[-1] * 1000:.0f} ms")

# %%
# needs: agents
# Who asked whom
roost.flow_picture(hops, title="A question, and what the thinking agent asked others for it")

# %% [markdown]
# The one who asks knows of none of the tools. Whoever leaves the stream cancels the handler, and with
# it the model's work: nobody pays for an answer that nobody reads. But a stream is for those who listen now, and if the
# agent dies the answer ends with `RemoteError` or `RequestTimeout`.
#
# ## Behind a task
#
# Now the same agent as a worker behind a task. It `emit`s the pieces, and returns the whole. The calculator is away when
# the question comes, as above; it joins only when the first attempt has failed.

# %%
# needs: jetstream, agents
# A worker behind a Task: retries
worker, attempts = roost.Agent("worker"), asyncio.Queue()


@worker.handles(research)
async def study(question: Question, ctx: roost.Context) -> Answer:
    attempts.put_nowait(ctx.attempt)
    pieces = []
    async for piece in think(question, ctx):
        await ctx.emit(piece)
        pieces.append(piece)
    return Answer(text="".join(pieces))


async with connect() as bus, bus.serving(thermometer, worker):
    handle = await bus.submit(research, Question(text=question), key="oslo-or-cairo")
    while await asyncio.wait_for(attempts.get(), 10) < 2:
        print("attempt 1 has begun, and nobody calculates")
    print("attempt 1 has failed, attempt 2 has begun: now the calculator joins")
    async with bus.serving(calculator):
        answer = await handle.result(timeout_s=20)
    picture = await roost.timeline(bus, handle)
print(answer.text)
picture

# %% [markdown]
# The question was on record, so it was tried again until it could be answered. That includes the death of the worker:
# then another one gets the question (killed workers are in [07-a-team](07-a-team.ipynb)). An attempt thinks anew; what
# was expensive, such as a tool call that costs money, can be kept for the next attempt with `ctx.once`.
#
# The pieces are on record too. A reader who comes late, after a reload of the page for instance, gets them from the
# first one on, also when the worker is gone.

# %%
# needs: jetstream, agents
# A late reader: the record of the pieces
async with connect() as bus:
    known = bus.handle(research, handle.id)  # in another program the id is enough
    chunks = [chunk async for chunk in known.chunks(str)]
print("nobody serves the task any more, and the pieces are:")
print("|".join(chunk.value for chunk in chunks))

# %% [markdown]
# ## Affinity: one conversation, one at a time
#
# Two messages of one conversation must not be thought about at once: the second may refer to the first. With `order_key`
# the tasks of one conversation run one at a time and in order, on whichever worker; those of different conversations
# run side by side. Below, two workers get three questions of each of two conversations. In the picture, no two
# questions of `ann` overlap.

# %%
# needs: jetstream, agents
# Affinity: an order key per conversation
dialogue = roost.Task("dialogue", Question, Answer, order_key=lambda question: question.conversation)


@worker.handles(dialogue)
async def reply(question: Question, ctx: roost.Context) -> Answer:
    return Answer(text="".join([piece async for piece in think(question, ctx)]))


asked = [
    (f"{who}-{n}", Question(text=f"How warm is it in {city}?", conversation=who))
    for n, city in enumerate(("Rome", "Paris", "Oslo"), 1)
    for who in ("ann", "bob")
]
async with connect() as bus, bus.serving(thermometer, worker, worker):
    handles = [await bus.submit(dialogue, question, key=key) for key, question in asked]
    for one in handles:
        print(f"{one.key}: {(await one.result(timeout_s=20)).text}")
    picture = await roost.timeline(bus, handles)
picture

# %% [markdown]
# ## Exercises
#
# **1.** How many requests does the thinking agent make for *Is it warmer in Rome or in Paris?* Give the number.

# %% tags=["exercise-1", "quiet"]
answer_1 = ...


# %%
# needs: agents
async def count_requests(number):
    hops.clear()
    async with connect() as bus, bus.serving(thermometer, calculator, thinker):
        async with bus.stream(chat, Question(text="Is it warmer in Rome or in Paris?")) as pieces:
            text = "".join([piece async for piece in pieces])
    made = [subject for sender, subject, _ in hops if sender == "thinker"]
    return number == len(made) or f"The answer was: {text} Which numbers did it need, and which did it not?"


await lesson.check(1, answer_1, count_requests)

# %% [markdown]
# **2.** A tool that is away should not always end the thinking: a model can do something with "unknown". Write
# `async def answer_2(ctx: roost.Context, city: str) -> float | str`: it asks `temperature_of` through `ctx`, and returns the
# text `unknown` when nobody serves it.

# %% tags=["exercise-2", "quiet"]
answer_2 = ...


# %%
# needs: agents
async def ask_through(tool):
    asker, through = roost.Agent("asker"), roost.Endpoint("through", str, float | str)

    @asker.handles(through)
    async def ask_it(city: str, ctx: roost.Context) -> float | str:
        return await tool(ctx, city)

    async with connect() as bus, bus.serving(asker):
        async with bus.serving(thermometer):
            there = await bus.request(through, "Rome")
        away = await bus.request(through, "Rome")
    if there != 19.0:
        return f"With the thermometer there it returned {there!r} for Rome, which has 19 degrees."
    return away == "unknown" or f"Without the thermometer it returned {away!r}."


await lesson.check(2, answer_2, ask_through)

# %% [markdown]
# **3.** An agent writes summaries. Those of one customer must be written one at a time and in order. Make a `roost.Task` named
# `summary`, of `Question` and `Answer`, that says so; the customer stands in `conversation`, before the first `/`, as in
# `ada/invoices` and `ada/letters`.

# %% tags=["exercise-3", "quiet"]
answer_3 = ...


# %%
# needs: jetstream, agents
async def one_at_a_time(task):
    if not isinstance(task, roost.Task) or task.name != "summary":
        return "A roost.Task named summary is wanted."
    writer, at_work, together = roost.Agent("writer"), set(), set()

    @writer.handles(task)
    async def write(question: Question) -> Answer:
        mine = question.conversation
        together.update((mine, other) for other in at_work)
        at_work.add(mine)
        await asyncio.sleep(0.1)
        at_work.remove(mine)
        return Answer(text=mine)

    names = ("ada/invoices", "ada/letters", "bob/letters")
    async with connect() as bus, bus.serving(writer):
        handles = [await bus.submit(task, Question(text="?", conversation=name)) for name in names]
        for handle in handles:
            await handle.result(timeout_s=10)
    if any({one[:3], other[:3]} == {"ada"} for one, other in together):
        return "Two summaries of ada were written at once."
    return bool(together) or "Those of ada and bob should be written side by side."


await lesson.check(3, answer_3, one_at_a_time)

# %% [markdown]
# ## What was shown
#
# - An agent that thinks is a loop: the model asks for tools until it answers in words.
# - Its tools can be other agents; a tool call is then a request on the bus.
# - Behind a `StreamEndpoint` the answer comes in pieces to who listens now; leaving cancels the work.
# - Behind a `Task` the question survives failures and deaths, and the pieces are kept for late readers.
# - `order_key` keeps one conversation in order, on however many workers.

# %%
await lesson.close()

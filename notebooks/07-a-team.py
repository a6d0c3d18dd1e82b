# %% [markdown]
# # A team of agents
#
# One agent plans, several work, one puts the results together. After this notebook you can build such a team, run each
# of its agents as a process of its own, see who did what when, and kill any of them in the middle of a job without
# losing the job.

# %%
import asyncio
import codecs
import contextlib
import inspect
import io
import json
import logging
import os
import subprocess
import sys
from collections import Counter

import nats
import team
from lesson import Lesson

import roost

logging.getLogger("roost").addHandler(logging.NullHandler())  # we look at results instead of log lines
lesson = await Lesson.open(
    "A team of agents", needs={"The team as processes": "jetstream", "Kill two of them": "agents"}
)
s = lesson.subject
lesson

# %% [markdown]
# ## Multi-agent coordination example
#
# The job: count the words of a text and name the most frequent ones. The text is the *Zen of Python*, which comes with
# Python; each of its lines is one page. That is little work, but it has the shape of most jobs for a team: split it,
# do the parts side by side, put the results together.

# %%
# The job: a text of twenty pages
with contextlib.redirect_stdout(io.StringIO()):  # it prints itself when it is imported
    import this
zen = codecs.decode(this.s, "rot13")
pages = [line for line in zen.splitlines() if line.strip()]
print(f"{len(pages)} pages; the first ones:", *pages[:3], sep="\n  ")

# %% [markdown]
# ## The idea, in plain NATS
#
# Three roles, two subjects. The coordinator publishes a task for each page on `team.tasks`. The workers listen there in
# one queue group, so each task goes to one of them, and they publish what they found on `team.results`. The reporter
# listens to that. No role knows the others' names or number.

# %%
# Define worker agents: they subscribe to tasks in a queue group
client = await nats.connect(lesson.url, name="coordinator and reporter")
workers = {}


async def start_worker(name):
    own = workers[name] = await nats.connect(lesson.url, name=name)

    async def work(message):
        task = json.loads(message.data)
        await asyncio.sleep(0.01)  # stands for work
        result = {"page": task["page"], "words": len(task["text"].split()), "by": name}
        await own.publish(s("team.results"), json.dumps(result).encode())

    await own.subscribe(s("team.tasks"), queue="workers", cb=work)
    await own.flush()


for name in ("ann", "bob"):
    await start_worker(name)
print("workers that listen:", *workers)


# %%
# Define coordinator agent and reporter agent: one publishes tasks, the other collects results
async def coordinate():
    for number, text in enumerate(pages, 1):
        await client.publish(s("team.tasks"), json.dumps({"page": number, "text": text}).encode())
    await client.flush()


async def collect(results, wanted, patience_s):
    found = []
    with contextlib.suppress(TimeoutError):
        while len(found) < wanted:
            found.append(json.loads((await results.next_msg(timeout=patience_s)).data))
    return found


results = await client.subscribe(s("team.results"))  # the reporter listens before anything is published
await coordinate()
found = await collect(results, len(pages), patience_s=5)
print(f"results of {len(found)} of {len(pages)} pages: {sum(one['words'] for one in found)} words")
roost.load_picture([one["by"] for one in found], title="Who counted how many pages", unit="pages")

# %% [markdown]
# A few lines, and the team works. Now the same again, but `bob` dies after the first result: its connection is cut
# while tasks wait in it. How many results come?

# %%
# What the plain team cannot survive: a worker dies
await coordinate()
first = await collect(results, 1, patience_s=5)
await workers["bob"].close()
found = first + await collect(results, len(pages) - 1, patience_s=0.5)
print(f"results of {len(found)} of {len(pages)} pages; no more come")
print("missing:", *sorted(set(range(1, len(pages) + 1)) - {one["page"] for one in found}))
for own in workers.values():
    await own.close()
await client.close()

# %% [markdown]
# The server had delivered those tasks, so to it they were done. The reporter only learns that it waited in vain: it
# cannot know whether a worker is slow or dead. And if the process of the coordinator dies, nobody even knows that there
# was a job. One can store the tasks in a stream, acknowledge them, count the results, write down how far the
# coordinator is, and elect another one when it dies. That is what Roost does.
#
# ## The team as processes
#
# The team's code is in [team.py](team.py); open it, it is short. It has
#
# - what the agents agree on: the tasks `count` and `report`, and the workflow `study`,
# - the coordinator, a function that splits (`run.step`), distributes (`run.map`) and has a report made (`run.call`),
# - the worker, which counts the words of one page and takes two pages at a time,
# - the reporter, which puts all counts together.
#
# Five processes are started: two of them coordinators, since one may die. They take a second or two to import what they
# need, and the cell waits until each has said that it is ready.


# %%
# needs: jetstream, agents
# Start the team: five processes of their own
def start(role, name):
    """`python team.py worker` with the name worker-1; what it logs goes into a file."""
    environment = os.environ | {
        "NATS_URL": lesson.url,
        "ROOST_NAMESPACE": lesson.namespace,
        "ROOST_INSTANCE": name,
    }
    with open(lesson.folder / f"{name}.log", "w") as log:
        return subprocess.Popen([sys.executable, "team.py", role], env=environment, stdout=log, stderr=log)


def connect():
    return roost.connect(lesson.url, namespace=lesson.namespace)


names = ("coordinator-1", "coordinator-2", "worker-1", "worker-2", "reporter-1")
async with connect() as bus, bus.watch_agents() as watch, asyncio.timeout(40):
    processes = {name: start(name.partition("-")[0], name) for name in names}
    async for _ in watch:
        ready = sorted(one.instance for one in watch.agents if one.state == "ready")
        if len(ready) == len(names):
            break
print("ready:", *ready)
print(inspect.getsource(team.plan))

# %% [markdown]
# Those are five programs that only know the server's address and the contracts. Above is the whole coordinator.
#
# The notebook starts the workflow and waits for its result. Any program that has the contract could.

# %%
# needs: jetstream, agents
# Run the complete workflow: distribution and aggregation
book = team.Book(title="The Zen of Python", text=zen)
async with connect() as bus:
    handle = await bus.start(team.study, book, key="calm")
    calm = await handle.result(timeout_s=30)
    picture = await roost.timeline(bus, handle)
print(f"{calm.pages} pages, {calm.words} words; most frequent:", calm.frequent)

# %% [markdown]
# All of it is on record, so the timeline can be drawn at any time, by anybody. One lane is one process.

# %%
# needs: jetstream, agents
# Timeline of the agents' interactions
picture

# %% [markdown]
# You see one coordinator over the whole run, with its step `split` at the beginning, the pages with both workers, two at
# a time, and the report at the end. The other coordinator has no lane: it had nothing to do.
#
# **Task distribution**: nobody assigned a page to a worker. Each takes the next page when it has a hand free.

# %%
# needs: jetstream, agents
# Task distribution: who counted which pages
counted = [task for task in picture.tasks if task.name == "count"]
roost.load_picture(
    [task.attempts[-1].by for task in counted], title="Who counted how many pages", unit="pages"
)

# %% [markdown]
# ## Kill two of them
#
# Now the same job again. After the fourth page a worker gets SIGKILL, after the eighth the coordinator that runs the job.
# SIGKILL is how the system ends a process that needs too much memory: the process cannot do anything about it.
#
# To do this in mid-run the notebook must follow the run. It does so as an agent of its own that **reports** the task `count`:
# it gets the outcome of each page, in order.


# %%
# needs: jetstream, agents
# Follow a run: an agent in the notebook that gets each outcome
def follower(handle, outcomes):
    agent = roost.Agent("follower")

    @agent.reports(team.count, of=handle.id)
    async def note(outcome: roost.Outcome[team.Counts], ctx: roost.Context) -> None:
        outcomes.put_nowait(outcome)

    return agent


async def runs_it(bus, handle):
    """The coordinator that has the run, as the record says."""
    tasks = (await roost.timeline(bus, handle)).tasks
    return next(task.attempts[-1].by for task in tasks if task.kind == "run")


def kill(name):
    processes[name].kill()
    processes[name].wait()


print("ready to follow a run and to kill")

# %%
# needs: jetstream, agents
# Kill a worker and the coordinator in mid-run, and look at the timeline again
async with connect() as bus:
    handle, outcomes = await bus.start(team.study, book, key="stormy"), asyncio.Queue()
    async with bus.serving(follower(handle, outcomes)):
        for done in range(1, 9):
            await asyncio.wait_for(outcomes.get(), 20)
            if done == 4:
                kill("worker-1")
                print("4 pages are counted: worker-1 is killed")
        kill(await runs_it(bus, handle))
        print("8 pages are counted: the coordinator is killed")
        stormy = await handle.result(timeout_s=30)
    picture = await roost.timeline(bus, handle)
print(f"{stormy.pages} pages, {stormy.words} words; most frequent:", stormy.frequent)
print("the same result as before:", stormy == calm)
picture

# %% [markdown]
# Look at three things. The hatched bar is that of the coordinator that was killed; where it ends, the other one takes
# over the run. The lane of `worker-1` ends early. And the pages that it had begun stand late in the lane of `worker-2`,
# among pages with higher numbers.
#
# Whoever is killed cannot say so. The server waits for one second without a sign of life (`ack_wait_s=1` in `team.py`;
# 30 s unless told otherwise) and gives the work to another. The second coordinator carried out the function `plan` from
# its start, but what is on record was read instead of done again. The worker did not need a coordinator: it went on
# counting while there was none.

# %%
# needs: jetstream, agents
# What is on record: each operation once, and who did it
for name in ("split", "count", "report", "study"):
    did = Counter(task.attempts[-1].by for task in picture.tasks if task.name == name)
    print(f"{name:<7}{did.total():>3} on record:", ", ".join(f"{by} did {n}" for by, n in did.items()))

# %% [markdown]
# The pages that the dead worker had in its hands were begun twice, but each has one outcome. So a worker that has effects
# outside, such as sending a mail, must bear doing its work twice ([09-good-practice](09-good-practice.ipynb) shows how).
#
# ## Exercises
#
# **1.** A coordinator is killed while the pages are counted, and another one goes on. How many times is the function that
# was given to `run.step` called in all? Give the number.

# %% tags=["exercise-1", "quiet"]
answer_1 = ...


# %%
# needs: jetstream, agents
async def called(number):
    again = roost.Workflow("again", int, int, ack_wait_s=1)
    agent, calls, at_work = roost.Agent("planner"), [], asyncio.Event()

    async def split() -> int:
        calls.append("split")
        return 2

    @agent.handles(again)
    async def plan(size: int, run: roost.Run) -> int:
        parts = await run.step("split", split)
        at_work.set()
        async with run.map(team.count, [team.Page(number=n, text=zen) for n in range(parts)]) as outcomes:
            return len([one async for one in outcomes])

    async with connect() as bus:
        handle = await bus.start(again, 1)
        async with bus.serving(agent, grace_s=0):
            await asyncio.wait_for(at_work.wait(), 10)
        async with bus.serving(agent):
            await handle.result(timeout_s=15)
    if number == len(calls):
        return True
    return "Tried out just now, `plan` ran twice, and the step was on record when it ran for the second time."


await lesson.check(1, answer_1, called)

# %% [markdown]
# **2.** Write the function of another coordinator, `async def answer_2(pages: list[team.Page], run: roost.Run) -> int`: it
# has the words of each page counted by the workers that still run, and returns how many *different* words there are on
# all pages together.

# %% tags=["exercise-2", "quiet"]
answer_2 = ...


# %%
# needs: jetstream, agents
async def different_words(function):
    variety, agent = (
        roost.Workflow("variety", list[team.Page], int, retry=roost.Retry(attempts=1)),
        roost.Agent("coordinator-of-yours"),
    )
    agent.handles(variety)(function)
    texts = ("to be or not to be", "be quick", "not now")
    async with connect() as bus, bus.serving(agent):
        given = [team.Page(number=number, text=text) for number, text in enumerate(texts, 1)]
        handle = await bus.start(variety, given)
        try:
            number = await handle.result(timeout_s=10)
        except roost.TaskDead as error:
            return f"It failed: {error}"
        finally:
            await handle.cancel()
        tasks = (await roost.timeline(bus, handle)).tasks
    if sum(task.name == "count" for task in tasks) != len(texts):
        return "Each page should be one task of the workers: use `run.map(team.count, pages, ...)`."
    return number == 6 or f"For {texts} it returned {number}; there are 6 different words."


await lesson.check(2, answer_2, different_words)

# %% [markdown]
# ## The end of the team
#
# The processes get SIGTERM. Whoever has something under way finishes it or hands it back, and ends with exit code 0; -9
# is that of the two that were killed.

# %%
# needs: jetstream, agents
# Graceful end of the processes
for process in processes.values():
    process.terminate()
codes = [await asyncio.to_thread(process.wait, 20) for process in processes.values()]
print("exit codes:", sorted(codes))

# %% [markdown]
# ## What was shown
#
# - Coordinator, workers and reporter need two subjects and a queue group, but with plain NATS a death loses work.
# - In Roost the tasks, their outcomes and the plan are on record; processes come and go.
# - Work of a process that dies goes to another after `ack_wait_s`; another coordinator repeats the function and reads
#   what is on record.
# - `roost.timeline` draws who did what when, from the record.

# %%
await lesson.close()

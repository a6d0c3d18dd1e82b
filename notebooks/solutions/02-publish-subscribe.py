# %% exercise-1
urgent = []


async def answer_1(message):
    task = json.loads(message.data)
    if task["priority"] >= 5:
        urgent.append(task["name"])


# %% exercise-2
async def answer_2(client, subject, count):
    inbox = await client.subscribe(subject)
    texts = []
    while len(texts) < count:
        message = await inbox.next_msg(timeout=5)
        texts.append(message.data.decode())
    await inbox.unsubscribe()
    return texts


# %% exercise-3
class Progress(BaseModel):
    agent: str
    percent: int


answer_3 = roost.Topic(s("agents.progress"), Progress)

# %% exercise-1
async def answer_1(client, subject, handler):
    await client.subscribe(subject, queue="readers", cb=handler)


# %% exercise-2
answer_2 = 30


# %% exercise-3
async def answer_3(client):
    await client.drain()

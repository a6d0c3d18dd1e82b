# %% exercise-1
async def answer_1(client, subject):
    async def reply(message):
        await message.respond(message.data.decode().upper().encode())

    await client.subscribe(subject, queue="shouters", cb=reply)


# %% exercise-2
answer_2 = dict(deliver_policy=DeliverPolicy.LAST)

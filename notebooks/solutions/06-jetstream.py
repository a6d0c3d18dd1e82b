# %% exercise-1
answer_1 = DeliverPolicy.LAST_PER_SUBJECT


# %% exercise-2
async def answer_2(message, work):
    try:
        await work(message.data)
    except Exception:
        await message.nak()
    else:
        await message.ack()


# %% exercise-3
answer_3 = 2

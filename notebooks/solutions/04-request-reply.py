# %% exercise-1
async def answer_1(message):
    await message.respond(json.dumps(sum(json.loads(message.data))).encode())


# %% exercise-2
async def answer_2(client, subject):
    try:
        return (await client.request(subject, b"", timeout=0.5)).data
    except NoRespondersError:
        return "nobody"
    except nats.errors.TimeoutError:
        return "late"


# %% exercise-3
async def answer_3(job: Job) -> Count:
    words = job.text.split()
    if not words:
        raise roost.Reject("there are no words to count")
    return Count(words=len(words), letters_per_word=sum(map(len, words)) / len(words))

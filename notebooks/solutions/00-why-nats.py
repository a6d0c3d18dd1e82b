# %% exercise-1
answer_1 = 3 * 10 + 10


# %% exercise-2
async def answer_2(js, subject, number):
    await js.publish(subject, str(number).encode(), headers={"Nats-Msg-Id": f"number-{number}"})

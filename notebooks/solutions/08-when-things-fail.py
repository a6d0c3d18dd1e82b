# %% exercise-1
answer_1 = roost.Retry(attempts=4, base_s=0.7)


# %% exercise-2
async def answer_2(bus, task):
    letters = [one for one in await bus.dead_letters(task) if one.error.startswith("ConnectionError")]
    for letter in letters:
        await bus.replay(task, letter)
    return len(letters)


# %% exercise-3
answer_3 = roost.BreakerPolicy(minimum_calls=3)

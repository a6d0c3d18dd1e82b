# %% exercise-1
answer_1 = 1


# %% exercise-2
async def answer_2(pages: list[team.Page], run: roost.Run) -> int:
    words = set()
    async with run.map(team.count, pages, key=lambda page: str(page.number)) as outcomes:
        async for outcome in outcomes:
            words.update(outcome.value.words)
    return len(words)

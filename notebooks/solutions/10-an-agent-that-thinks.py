# %% exercise-1
answer_1 = 2


# %% exercise-2
async def answer_2(ctx: roost.Context, city: str) -> float | str:
    try:
        return await ctx.request(temperature_of, city)
    except roost.NoResponders:
        return "unknown"


# %% exercise-3
answer_3 = roost.Task("summary", Question, Answer, order_key=lambda one: one.conversation.split("/")[0])

# %% exercise-1
answer_1 = dict(max_reconnect_attempts=1, reconnect_time_wait=0.2, connect_timeout=0.3)


# %% exercise-2
async def answer_2(url):
    asking = await nats.connect(url)
    version = asking.connected_server_version
    await asking.close()
    return f"{version.major}.{version.minor}.{version.patch}"


# %% exercise-3
answer_3 = f"{nobody},{url}"

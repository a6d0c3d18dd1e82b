# %% exercise-1
answer_1 = "team.research.*.error"

# %% exercise-2
answer_2 = "agents.worker1.>"

# %% exercise-3
battery = roost.Topic(s("robots.{site}.{robot}.battery"), Status)
answer_3 = battery.at(site="north", robot="r2")

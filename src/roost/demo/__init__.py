"""`roost demo`: a team of agents, each in processes of its own, audits a folder of real files.

Here live the audit itself (what is in a file, whether links lead somewhere, the report) and the team that does it.
What the team needs from Roost it takes from the public API, as a user's program would, except for the reporter,
which reads the log. Nothing in Roost but the command line imports this package.
"""

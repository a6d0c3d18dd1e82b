"""The kill test: processes killed at random under load, and a checker that shares no code with Roost.

`make kill` runs the long form, `make kill-cluster` kills the leader of three servers for 3 minutes, `make mutants`
breaks one promise at a time and expects this test to notice.
"""

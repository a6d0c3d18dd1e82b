"""What tests of agents need: a pytest plugin with a real server and a namespace per test (`plugin.py`).

Fixtures and their helpers live here. Nothing in it may be imported by the code that is tested.
"""

"""Durable tasks on a real server: what the issue promises, one file per subject.

Workers that die are processes; what strangers write is written by plain nats-py.
"""

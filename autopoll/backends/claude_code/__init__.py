"""The Claude Code CLI as a warm instance: a few processes made ready ahead, one question each.

backend.py    the backend: options, start, answer, probe, stop
program.py    which binary, and whether it is new enough
launch.py     its command line and its environment
ground.py     the private folder it stands in: system prompt, copies of the context, scratch space
transport.py  the process under the SDK
session.py    one process, from its start to its end
pool.py       those that wait for a question
outcome.py    what it says, made an answer or a failure of the contract
"""

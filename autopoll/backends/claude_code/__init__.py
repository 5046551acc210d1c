"""The Claude Code CLI as a warm instance: a few processes made ready ahead, one question each.

claude_backend.py  the backend: start, answer, probe, stop
claude_options.py  its options in autopoll.toml
program.py         which binary, and whether it is new enough
launch.py          its command line and its environment
workspace.py       its private folder: system prompt, copies of the context, scratch space
transport.py       the process under the SDK
claude_session.py  one process, from its start to its end
pool.py            the processes that wait for a question
outcome.py         its messages, made an answer or a failure of the contract
"""

"""The soak: a million questions, a restart of every process, and nothing that grows."""

"""Processes: heartbeats, verdicts, signals, and talking to supervisord."""

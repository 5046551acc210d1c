"""Processes: heartbeats, vitals and verdicts, signals, and talking to supervisord."""

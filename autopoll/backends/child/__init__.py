"""Shared code of backends that run a program, and the backend `command`."""

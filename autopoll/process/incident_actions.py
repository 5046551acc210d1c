"""What is done about a verdict, as an incident names it."""

# These let the process live …
CONTINUED = "continued"
ASKED_TO_REAP = "told to reap"
REPORTED = "reported"
# … and these do not.
DRAINED = "drained"
KILLED = "killed"
RESTARTED = "started again"
LEFT = "left to supervisord"
LEFT_TO_UP = "left to autopoll up"  # with supervisord itself

_LIVES_ON = (CONTINUED, ASKED_TO_REAP, REPORTED)


def has_ended(action: str) -> bool:
    """Tell whether the action is the end of the process, or follows it."""
    return action not in _LIVES_ON

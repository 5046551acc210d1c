"""The form of a log line, of every process and of the home itself: one JSON object."""

import json
from datetime import UTC, datetime
from typing import Any

from autopoll.redact.redact import redact


def log_fields(process: str, level: str, seconds: float) -> dict[str, Any]:
    """Return what each line begins with: `at` (UTC), `level`, `process`."""
    at = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return {"at": at, "level": level, "process": process}


def log_line(fields: dict[str, Any]) -> str:
    """Return a line of these fields, without secrets and in ASCII."""
    clean = {key: redact(each) if isinstance(each, str) else each for key, each in fields.items()}
    return json.dumps(clean, default=lambda value: redact(str(value)))

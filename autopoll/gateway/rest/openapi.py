"""The OpenAPI document: what is answered is described from the very records that are sent."""

import json
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi

from autopoll.gateway import strict_json
from autopoll.gateway.problems import MEDIA_TYPE, Problem

Responses = dict[int | str, dict[str, Any]]

_PLACE = "#/components/schemas/{name}"
_SENT: set[Any] = {Problem}
_RETRY = {"Retry-After": {"description": "Seconds.", "schema": {"type": "string"}}}
# What any request may be answered: not HTTP, no token, the wrong one, too slow, too large, the
# wrong type of content, the wrong host, not usable, a bug, and what passes.
_ANY = (400, 401, 403, 408, 413, 415, 421, 422, 500, 503)
# Generated clients name their classes by these, so they stay whatever ours are called.
_PUBLISHED = {
    "AnsweringHome": "Host",
    "ConversationList": "Conversations",
    "DeadLetterList": "DeadLetters",
    "DiskForecast": "Disk",
    "HostList": "Hosts",
    "IncidentList": "Incidents",
    "IncidentReport": "Incident",
    "MessageList": "Messages",
    "NewPause": "Pause",
    "NewQuestion": "Question",
    "ProbeResult": "Health",
    "QueueEntry": "QueuedQuestion",
    "QueueView": "Queue",
    "SessionStatusList": "Presences",
    "ShardList": "Shards",
}
_OURS = re.compile(rf'(?<=["/])({"|".join(_PUBLISHED)})(?=")')  # as key, title or end of a $ref


def record(kind: Any, description: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """Return the description of an answer that is one record of a kind."""
    _SENT.add(kind)
    content = {"application/json": {"schema": {"$ref": _PLACE.format(name=kind.__name__)}}}
    described: dict[str, Any] = {"description": description, "content": content}
    if headers:
        described["headers"] = {
            name: {"description": text, "schema": {"type": "string"}}
            for name, text in headers.items()
        }
    return described


def problems(*more: int, less: tuple[int, ...] = ()) -> Responses:
    """Return the descriptions of the errors that a request may be answered by."""
    described: Responses = {}
    for status in sorted({*_ANY, *more} - {*less}):
        described[status] = {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": _PLACE.format(name="Problem")}}},
        }
        if status in (429, 503):
            described[status]["headers"] = _RETRY
    return described


def send(sent: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a record as it goes out."""
    return Response(strict_json.encode(sent), status, headers, "application/json")


def describe(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """Return what makes the document of an app, once."""

    def made() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
            )
            _, sent = msgspec.json.schema_components(
                sorted(_SENT, key=lambda kind: kind.__name__), ref_template=_PLACE
            )
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas |= sent
            text = _OURS.sub(lambda ours: _PUBLISHED[ours[0]], json.dumps(document))
            app.openapi_schema = json.loads(text)
        return app.openapi_schema

    return made

"""What the routes of REST are made of."""

from collections.abc import Iterator
from inspect import iscoroutinefunction

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from autopoll.gateway.rest import (
    conversation_routes,
    health_routes,
    metrics,
    operation_routes,
    question_routes,
)

SERVED = (question_routes, conversation_routes, operation_routes, health_routes, metrics)
ROUTES = [each for one in SERVED for each in one.router.routes if isinstance(each, APIRoute)]


def called_for(dependant: Dependant) -> Iterator[object]:
    """Yield the functions that a request is served by."""
    yield dependant.call
    for each in dependant.dependencies:
        yield from called_for(each)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.methods} {route.path}")
def test_no_request_waits_for_a_thread_of_the_framework(route: APIRoute) -> None:
    for each in called_for(route.dependant):
        assert iscoroutinefunction(each) or iscoroutinefunction(type(each).__call__), each

"""What the routes of REST are made of."""

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from inspect import iscoroutinefunction

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from autopoll.gateway import rest

MODULES = [
    import_module(f"{rest.__name__}.{each.name}") for each in pkgutil.iter_modules(rest.__path__)
]
ROUTES = [
    each
    for module in MODULES
    if hasattr(module, "router")
    for each in module.router.routes
    if isinstance(each, APIRoute)
]


def called_for(dependant: Dependant) -> Iterator[object]:
    """Yield the functions that a request is served by."""
    yield dependant.call
    for each in dependant.dependencies:
        yield from called_for(each)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.methods} {route.path}")
def test_no_request_waits_for_a_thread_of_the_framework(route: APIRoute) -> None:
    for each in called_for(route.dependant):
        assert iscoroutinefunction(each) or iscoroutinefunction(type(each).__call__), each

"""The gateway's application: REST, MCP, the page and the middleware before them, put together."""

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp

from autopoll import __version__
from autopoll.gateway.audit import Audit
from autopoll.gateway.auth_middleware import AuthMiddleware
from autopoll.gateway.hub import Hub
from autopoll.gateway.mcp.http import HEADERS, PATH, McpEndpoint
from autopoll.gateway.page import page_routes
from autopoll.gateway.request_checks import RequestChecks
from autopoll.gateway.rest import (
    conversation_routes,
    health_routes,
    metrics,
    operation_routes,
    question_routes,
    queue_routes,
)
from autopoll.gateway.rest.error_handlers import install
from autopoll.gateway.rest.openapi import describe
from autopoll.gateway.rest.readyz import Readiness

_ABOUT = """\
Ask warm AI agents and get one answer to each question, whatever is killed meanwhile.

A conversation's token opens that conversation; the operator's token (`autopoll gateway token`)
opens everything. Every error is problem+json (RFC 9457), with what to do about it in `mend`.
"""


def build(hub: Hub, endpoint: McpEndpoint, audit: Audit) -> ASGIApp:
    """Return what is served, with all middleware, over a hub and an endpoint that are entered."""
    app = make_app(hub, audit)
    route = Route(PATH, endpoint=endpoint, methods=["POST", "GET", "DELETE"])
    for each in (route, *page_routes.routes()):
        app.router.routes.append(each)
        app.state.routes.append(each)
    return RequestChecks(app, hub.config.gateway, audit)


def make_app(hub: Hub, audit: Audit) -> FastAPI:
    """Return the application without what checks the requests."""
    app = FastAPI(
        title="autopoll",
        version=__version__,
        description=_ABOUT,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        strict_content_type=False,  # a body of no type is JSON; see rest/bodies.py for the others
    )
    app.state.hub = hub
    app.state.finished = metrics.FinishedQuestions()
    app.state.ended = metrics.EndedProcesses()
    app.state.readiness = Readiness(hub)
    served = (
        question_routes,
        queue_routes,
        conversation_routes,
        operation_routes,
        health_routes,
        metrics,
    )
    for each in served:
        app.include_router(each.router)
    app.state.routes = [route for each in served for route in each.router.routes]
    install(app)
    app.openapi = describe(app)  # type: ignore[method-assign]
    app.add_middleware(AuthMiddleware, hub=hub, audit=audit)
    if origins := hub.config.gateway.allowed_origins:  # outermost: a page may read a refusal
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Prefer", *HEADERS],
            expose_headers=["Location", "Retry-After", "Preference-Applied"],
        )
    return app

"""The first view: whether all is well, and what the home is up to."""

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from autopoll.gateway.page.page_view import view
from autopoll.gateway.page.plot import Plot
from autopoll.gateway.page.templating import page
from autopoll.gateway.usecases import CallerAccess, UseCases
from autopoll.home.desk_files import DeskLogin
from autopoll.ops.answer_hour import PARTS, AnswerPart, answer_hour
from autopoll.ops.home_snapshot import snapshot


@view
async def overview(request: Request, access: CallerAccess, login: DeskLogin) -> Response:
    """Return the page at `/`."""
    hub = access.hub
    # In a thread of its own: supervisord is given a second to answer.
    seen = await asyncio.to_thread(snapshot, hub.home, hub.config)
    hour = await access.call(_hour)
    rates, times = [each.answers for each in hour], [each.p50_ms for each in hour]
    values = {
        "seen": seen,
        "status": seen.status,
        "rate": Plot.of(rates),
        "latency": Plot.of(times),
        "answers": sum(rates),
        "minutes": 60 // PARTS,
        "login": login,
    }
    return page("overview.html", values)


def _hour(use: UseCases) -> list[AnswerPart]:
    use.require_operator()
    return answer_hour(use.client.bridge)

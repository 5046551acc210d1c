"""Questions by state, filtered and searched, and one of them with its way."""

from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from autopoll.bridge.question_list import QuestionList
from autopoll.client.question_search import find_questions
from autopoll.client.result import Result
from autopoll.errors import UsageError
from autopoll.gateway import queue_usecases
from autopoll.gateway.page.page_view import view
from autopoll.gateway.page.templating import page
from autopoll.gateway.usecases import CallerAccess, UseCases
from autopoll.home.desk_files import DeskLogin
from autopoll.message import read_content
from autopoll.ops.queue_view import QueueView

LISTED = 50
SEARCH_S = 0.3  # of the bridge's thread, on which all others wait
LONGEST = 200  # characters of what is looked for
LARGEST = (1 << 63) - 1  # that a store can hold as a number
SHOWN = 200_000  # characters of a question or an answer
STATES = {"waiting": None, "answered": "done", "failed": "dead", "all": None}


@view
async def questions(request: Request, access: CallerAccess, login: DeskLogin) -> Response:
    """Return a list of questions, the newest first; of those that wait, the oldest."""
    given = request.query_params
    state, shard = given.get("state", "waiting"), given.get("shard", "")
    words = given.get("text", "")[:LONGEST]
    if state not in STATES:
        raise UsageError(f"there is no state {state[:50]!r}", f"Known: {', '.join(STATES)}.")
    place = _number(given.get("from"))
    values = {
        "state": state, "states": [*STATES], "shard": shard, "text": words,
        "shards": [*access.hub.config.shards], "login": login,
    }  # fmt: skip
    if state == "waiting":
        queue: QueueView = await access.call(
            lambda use: queue_usecases.queue(use, shard or None, place or 0, LISTED)
        )
        return page("queue.html", {**values, "queue": queue, "more": _more(values, queue.next)})

    def look(use: UseCases) -> QuestionList:
        use.require_operator()
        return find_questions(
            use.client.bridge, words, state=STATES[state], shard=shard or None, before=place,
            limit=LISTED, seconds=SEARCH_S,
        )  # fmt: skip

    found = await access.call(look)
    return page("questions.html", {**values, "found": found, "more": _more(values, found.next)})


@view
async def question(request: Request, access: CallerAccess, login: DeskLogin) -> Response:
    """Return one question: its texts, its way, and how long each hop took."""
    number = min(request.path_params["number"], LARGEST)
    trace = await access.trace(number)

    def texts(use: UseCases) -> tuple[str, Result]:
        asked = use.client.bridge.messages.message(number)
        return read_content(asked.text, asked.metadata).text, use.result(number)

    asked, result = await access.call(texts)
    values = {
        "trace": trace, "question": asked[:SHOWN], "result": result,
        "answer": (result.answer or "")[:SHOWN], "login": login,
    }  # fmt: skip
    return page("question.html", values)


def _number(text: str | None) -> int | None:
    """Return where a list goes on; raise UsageError for what is no number."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and int(text) <= LARGEST):
        raise UsageError(
            f"{text[:50]!r} is no number of a question", "Follow the page's own links."
        )
    return int(text)


def _more(values: dict[str, object], place: int | None) -> str | None:
    """Return the link to the next part of a list."""
    if place is None:
        return None
    kept = {name: str(values[name]) for name in ("state", "shard", "text") if values[name]}
    return f"/desk/questions?{urlencode({**kept, 'from': place})}"

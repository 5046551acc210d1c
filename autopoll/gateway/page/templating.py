"""HTML from templates; whatever comes from a question, an answer or a log is text in it."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

from autopoll import __version__
from autopoll.clock import utc_iso_of, wall_ms, zoned
from autopoll.gateway.page.page_headers import HEADERS, PRIVATE
from autopoll.home.byte_size import in_words
from autopoll.text import visible

NONE = "\N{EN DASH}"
_SPANS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def page(template: str, values: Mapping[str, Any], status: int = 200) -> HTMLResponse:
    """Return an answer made of a template."""
    html = _environment().get_template(template).render(version=__version__, **values)
    return HTMLResponse(html, status, {**HEADERS, **PRIVATE})


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("autopoll.gateway.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "span": span, "ago": ago, "moment": moment, "bytes": _bytes, "visible": visible,
    }  # fmt: skip
    return environment


def span(seconds: float | None) -> str:
    """Return a time in its two largest units: "3 min 20 s"; a dash where there is none."""
    if seconds is None:
        return NONE
    if seconds < 1:
        return f"{max(0, round(seconds * 1000))} ms"
    left = int(seconds)
    words: list[str] = []
    for size, unit in _SPANS:
        count, left = divmod(left, size)
        if count or words:
            words.append(f"{count} {unit}")
        if len(words) == 2:
            break
    return " ".join(word for word in words if not word.startswith("0 ")) or "0 s"


def ago(at: int | None) -> str:
    """Return how long ago a moment (wall-clock milliseconds) was."""
    return NONE if at is None else f"{span(max(0, wall_ms() - at) / 1000)} ago"


def moment(at: int | None) -> str:
    """Return a moment (wall-clock milliseconds) in UTC."""
    return "" if at is None else zoned(utc_iso_of(at))


def _bytes(count: int | None) -> str:
    return NONE if count is None else in_words(count)

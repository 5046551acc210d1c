"""The page over HTTP: who is let in, what is shown, and what another site cannot do."""

import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
from doors import Door
from json_schemas import SCHEMAS
from jsonschema import validate
from place import until

from autopoll.home import desk_files

SCRIPT = "<script>alert('x')</script> & \x1b[31mred\u202e"


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    door = Door(tmp_path_factory.mktemp("page"))
    try:
        door.place.run("up")
        door.open_gate()
        yield door
    finally:
        door.place.close()


def code(door: Door) -> str:
    made: str = door.place.json("desk")["code"]
    return made


def browser(door: Door) -> httpx.Client:
    return httpx.Client(base_url=door.url, timeout=30)


def log_in(client: httpx.Client, code: str, **headers: str) -> httpx.Response:
    sent = {"Origin": str(client.base_url).rstrip("/"), "Sec-Fetch-Site": "same-origin", **headers}
    return client.post("/desk/login", data={"code": code}, headers=sent)


@pytest.fixture
def inside(door: Door) -> Iterator[httpx.Client]:
    with browser(door) as client:
        assert log_in(client, code(door)).status_code == 303
        yield client


class _Text(HTMLParser):
    """The text of a page, and every tag with what may run or load something."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text = ""
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


# --- who is let in


def test_a_browser_is_let_in_once_by_a_code_and_knows_nothing_of_it_then(door: Door) -> None:
    made = code(door)
    with browser(door) as first, browser(door) as second:
        assert first.get("/").headers["location"] == "/desk/login"
        done = log_in(first, made.lower())
        assert (done.status_code, done.headers["location"]) == (303, "/")
        cookie = done.headers["set-cookie"]
        assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
        assert cookie.startswith(f"autopoll-{door.address[1]}=")
        assert "ready" in first.get("/").text
        refused = log_in(second, made)
        assert refused.status_code == 403
        assert "was used" in refused.text
        assert second.get("/").status_code == 303


@pytest.mark.parametrize(
    "given", ["", "x", "AAAA-AAAA-AAAA-AAAA", "../../../etc/passwd", "\x00", "ü" * 40, "A" * 3000]
)
def test_what_is_no_code_opens_nothing(door: Door, given: str) -> None:
    with browser(door) as client:
        assert log_in(client, given).status_code == 403
        assert client.get("/").status_code == 303


def test_a_code_ends_after_a_minute_and_a_login_after_half_a_day(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, now = door.place.home, desk_files.wall_ms()
    late = desk_files.make_code(home)
    token = desk_files.begin_login(home)
    monkeypatch.setattr(desk_files, "wall_ms", lambda: now + desk_files.CODE_S * 1000 + 60_000)
    assert not desk_files.take_code(home, late)
    assert desk_files.login_of(home, token)
    monkeypatch.setattr(desk_files, "wall_ms", lambda: now + desk_files.LOGIN_S * 1000 + 60_000)
    assert desk_files.login_of(home, token) is None


def test_only_so_many_are_logged_in_and_all_is_private(door: Door) -> None:
    home = door.place.home
    tokens = [desk_files.begin_login(home) for _ in range(desk_files.MOST + 3)]
    kept = [*(home.desk / "logins").iterdir()]
    assert len(kept) == desk_files.MOST
    assert desk_files.login_of(home, tokens[-1])
    for path in (home.desk, *home.desk.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path
    shown = "".join(str(path) + path.read_text() for path in kept)
    assert not any(token in shown for token in tokens)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"},
        {"Origin": "https://127.0.0.1"}, {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)  # fmt: skip
def test_another_site_can_log_nobody_in(door: Door, headers: dict[str, str]) -> None:
    made = code(door)
    with browser(door) as client:
        assert log_in(client, made, **headers).status_code == 403
        assert log_in(client, made).status_code == 303, "the code was not even looked at"


def test_a_form_without_an_origin_or_of_another_kind_is_refused(door: Door) -> None:
    made = code(door)
    with browser(door) as client:
        assert client.post("/desk/login", data={"code": made}).status_code == 403
        origin = {"Origin": door.url}
        for more in ({"json": {"code": made}}, {"files": {"code": made.encode()}}):
            assert client.post("/desk/login", headers=origin, **more).status_code == 422
        large = {"code": "x" * 100_000}
        assert client.post("/desk/login", headers=origin, data=large).status_code == 422
        many = {str(number): "x" for number in range(20)}
        assert client.post("/desk/login", headers=origin, data=many).status_code == 422
        assert log_in(client, made).status_code == 303


def test_a_logout_wants_the_token_of_the_form_and_ends_the_login(
    door: Door, inside: httpx.Client
) -> None:
    own = {"Origin": door.url, "Sec-Fetch-Site": "same-origin"}
    [token] = re.findall(r'name="form_token" value="([^"]+)"', inside.get("/").text)
    kept = dict(inside.cookies)
    for form, headers in (
        ({"x": "y"}, own), ({"form_token": "x"}, own), ({"form_token": token}, {}),
        ({"form_token": token}, {**own, "Origin": "http://evil.example"}),
    ):  # fmt: skip
        assert inside.post("/desk/logout", data=form, headers=headers).status_code == 403
    assert inside.get("/").status_code == 200
    done = inside.post("/desk/logout", data={"form_token": token}, headers=own)
    assert (done.status_code, done.headers["location"]) == (303, "/desk/login")
    assert httpx.get(door.url, cookies=kept).status_code == 303, "though the cookie is kept"


def test_the_cookie_opens_nothing_but_the_page_and_a_bearer_not_the_page(
    door: Door, inside: httpx.Client
) -> None:
    for path in ("/v1/status", "/v1/queue", "/metrics", "/mcp", "/v1/questions/1"):
        assert inside.get(path).status_code == 401, path
    with door.client() as client:
        assert client.get("/").status_code == 303
        assert client.get("/v1/status", headers={"Origin": door.url}).status_code == 403


def test_a_login_outlives_the_gateway(door: Door) -> None:
    with browser(door) as client:
        log_in(client, code(door))
        pid = door.place.kill("gateway")
        until(lambda: (beat := door.place.beat("gateway")) and beat.pid != pid, what="another")
        door.serves()
        assert client.get("/").status_code == 200


# --- what is shown


@pytest.mark.parametrize(
    "path", ["/", "/desk/login", "/desk/questions", "/desk/questions/1", "/desk/page.css"]
)
def test_nothing_comes_from_elsewhere_and_nothing_is_inline(
    door: Door, inside: httpx.Client, path: str
) -> None:
    door.place.ask("why?", "--shard", "echo")
    answer = inside.get(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    if not path.endswith(".css"):
        assert answer.headers["cache-control"] == "no-store"
    for tag, attributes in _Text(answer.text).tags:
        for name, value in attributes.items():
            assert name != "style" and not name.startswith("on"), (tag, name)
            if name in ("src", "href", "action"):
                assert re.match(r"[/#](?!/)", value or ""), (tag, value)
        assert tag != "script" or attributes.get("src") == "/desk/page.js"


@pytest.mark.parametrize("path", ["/", "/desk/questions?state=all", "/desk/questions/1"])
def test_no_two_landmarks_have_the_same_name(inside: httpx.Client, path: str) -> None:
    tags = _Text(inside.get(path).text).tags
    named = [each.get("aria-label") or each.get("aria-labelledby") for _tag, each in tags]
    names = [name for name in named if name]
    assert names
    assert len(names) == len(set(names))


def test_the_files_of_the_page_are_small(inside: httpx.Client) -> None:
    served = [inside.get(path).content for path in ("/", "/desk/page.css", "/desk/page.js")]
    assert sum(map(len, served)) < 60_000


def test_texts_of_others_are_text(door: Door, inside: httpx.Client) -> None:
    asked = door.place.ask(SCRIPT, "--shard", "echo")
    for path in (f"/desk/questions/{asked['id']}", "/desk/questions?state=all"):
        page = inside.get(path).text
        assert "<script>alert" not in page
        assert "\x1b" not in page and "\u202e" not in page
        assert "<script>alert('x')</script> &" in _Text(page).text
    found = inside.get("/desk/questions", params={"state": "all", "text": SCRIPT, "shard": SCRIPT})
    assert "<script>alert" not in found.text


def test_a_question_shows_its_answer_its_way_and_what_it_took(
    door: Door, inside: httpx.Client
) -> None:
    asked = door.place.ask("what is shown?", "--shard", "echo")
    text = " ".join(_Text(inside.get(f"/desk/questions/{asked['id']}").text).text.split())
    assert f"Question {asked['id']}: answered" in text
    assert text.count("what is shown?") == 2
    for state in ("sent", "enrolled", "claimed", "dispatched", "answered"):
        assert f" {state} " in text


def test_questions_are_listed_by_state_shard_and_words_a_page_at_a_time(
    door: Door, inside: httpx.Client
) -> None:
    for number in range(55):
        door.place.run("ask", f"needle {number}", "--shard", "echo", "--no-wait")
    until(lambda: door.place.json("status")["queue"]["done"] >= 55, what="the answers")
    first = inside.get("/desk/questions", params={"state": "answered", "text": "NEEDLE"}).text
    numbers = re.findall(r"needle (\d+)</td>\s*<td", first)
    assert numbers == [str(number) for number in range(54, 4, -1)]
    [more] = re.findall(r'<a href="([^"]+)" rel="next">', first)
    second = inside.get(more.replace("&amp;", "&")).text
    assert re.findall(r"needle (\d+)</td>\s*<td", second) == ["4", "3", "2", "1", "0"]
    assert "needle" not in inside.get("/desk/questions?state=answered&shard=main").text
    door.open_gate(False)
    waiting = door.place.json("ask", "waits", "--shard", "main", "--no-wait")["id"]
    until(lambda: f">{waiting}<" in inside.get("/desk/questions").text, what="it to be listed")
    door.open_gate()


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/desk/questions?state=x", 422), ("/desk/questions?from=x", 422),
        ("/desk/questions?from=99999999999999999999", 422), ("/desk/questions/987654321", 404),
        ("/desk/questions/99999999999999999999999", 404), ("/desk/questions/x", 404),
        ("/desk/nothing", 404), ("/desk/questions?from=-1", 422),
    ],
)  # fmt: skip
def test_what_is_not_there_is_said_without_a_traceback(
    inside: httpx.Client, path: str, code: int
) -> None:
    answer = inside.get(path)
    assert answer.status_code == code
    assert "Traceback" not in answer.text


def test_looking_changes_nothing(door: Door, inside: httpx.Client) -> None:
    before = door.place.run("audit", "--json", "--limit", "1000").stdout.splitlines()
    messages = door.place.run("messages", "--json", "--limit", "1000").stdout
    for path in ("/", "/desk/questions", "/desk/questions?state=all", "/desk/questions/1"):
        inside.get(path)
    assert door.place.run("audit", "--json", "--limit", "1000").stdout.splitlines() == before
    assert door.place.run("messages", "--json", "--limit", "1000").stdout == messages


# --- the command


def test_the_command_says_what_keeps_it_from_the_page(
    new_place: Callable[..., Any],
) -> None:
    place = new_place()
    off = place.run("desk", code=4)
    assert "gateway.enabled = true" in off.stderr
    (place.root / "autopoll.toml").write_text(
        '[shards.main]\nbackend = "echo"\n[gateway]\nenabled = true\n'
    )
    assert "autopoll up" in place.run("desk", code=2).stderr
    (place.root / "autopoll.toml").write_text(
        '[shards.main]\nbackend = "echo"\n[gateway]\nenabled = true\nlisten = "unix:var/g.sock"\n'
    )
    assert "no browser can reach" in place.run("desk", code=4).stderr


def test_what_the_command_prints_is_as_its_schema_says(door: Door) -> None:
    validate(door.place.json("desk"), SCHEMAS["desk"])


def test_the_link_with_the_code_is_in_a_private_file_and_in_no_argument(door: Door) -> None:
    done = door.place.run("desk", "--no-browser")
    [shown] = re.findall(r"[A-Z2-9]{4}(?:-[A-Z2-9]{4}){3}", done.stdout)
    link = door.place.home.desk / "open.html"
    assert link.stat().st_mode & 0o077 == 0
    assert f"{door.url}/desk/login#{shown}" in link.read_text()
    opened = door.place.root / "opened"
    browser = door.place.root / "browser"
    browser.write_text(f"#!/bin/sh\necho \"$@\" > '{opened}'\n")
    browser.chmod(0o755)
    door.place.environ |= {"BROWSER": f"{browser} %s", "DISPLAY": ":99"}
    try:
        door.place.run("desk")
        until(lambda: opened.exists() and opened.read_text(), what="the browser")
    finally:
        del door.place.environ["BROWSER"], door.place.environ["DISPLAY"]
    assert opened.read_text().strip() == link.as_uri()

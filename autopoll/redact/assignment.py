"""Secrets that are known by the name they are given to: `DB_PASSWORD=…`, `"token": "…"`, `?key=…`.

A name alone says little: in `password = input()` and `token=next` nothing is secret. So what stands
behind the name is judged too, by how it is written and by its own look. Everything lies within one
line, and each part is bounded, so that the time grows with the length of the text.
"""

import re
import string

from autopoll.redact.pattern import compiled

# Of `oken` and `ecret` there are ordinary uses, so their values must look like a secret.
_SECRET = r"secret(?:[_-]?(?:access[_-]?)?key(?:[_-]?base)?)?"  # noqa: S105 - a pattern
_PASSWORD = rf"pass(?:word|wd|phrase)|(?<=[_-])pass|(?<![a-z])pwd|{_SECRET}"
_OF_KEY = "api|access|auth|account|private|encryption|signing|master"
_KEY = rf"(?:{_OF_KEY})[_-]?key|credential"
_NAME = rf"(?P<password>{_PASSWORD})|(?P<key>{_KEY})|token"
_GIVEN = r"\\{0,3}[\"']?[ \t]{0,3}(?::=|=>|[=:](?!=))[ \t]{0,3}"
_ASSIGNMENT = (
    rf"(?P<name>(?i:{_NAME})(?:[_-]?[0-9]{{1,3}})?)(?P<given>{_GIVEN})"
    r"(?:(?P<escaped>\\{1,3}[\"'])(?P<within>[^\"'\\\n]{1,512}+)"
    r"|\"(?P<double>(?![),\]; ])(?:[^\"\\\n]|\\[^\n]){1,512}+)"
    r"|'(?P<single>(?![),\]; ])(?:[^'\\\n]|\\[^\n]){1,512}+)"
    r"|(?P<bare>[^\s\"'`,;&<>()\[\]{}|\\]{1,256}+))"
)
_QUERY = (
    r"(?P<lead>[?&](?:amp;)?(?i:(?:[a-z]{1,16}[_-]){0,3}"
    r"(?:key|apikey|token|sig|signature|secret|password|passwd|pwd|auth|credential))=)"
    r"(?P<value>[^\s\"'&#<>()\[\]{}\\]{4,2048}+)"
)
_LITERALS = ("pass", "pwd", "secret", "token", "credential")
_BEFORE_KEY = rf"(?:{_OF_KEY})[_-]?\Z"
_SMALL = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_OPTION = (
    r"(?P<lead>--(?<![\w-]--)(?:[a-z]{1,16}-){0,2}(?:password|passphrase|secret|token|api-key)"
    r"[ \t]{1,3}[\"']?)(?P<value>[^\s\"'`<>()\[\]{}|\\-][^\s\"'`<>()\[\]{}|\\]{2,255}+)"
)
# In a text that still grows: what may become one, seen from its name on.
_BEGINNING = (
    rf"(?i:{_NAME})(?:[_-]?[0-9]{{1,3}})?\\{{0,3}}[\"']?[ \t]{{0,3}}(?:[=:]|\Z)"
    r"|(?i:authorization|digest|curl )"
    r"|--(?:[a-z]{1,16}-){0,2}(?:password|passphrase|secret|token|api-key)[ \t]{1,3}\S{0,256}\Z"
)
LONGEST = 1200  # characters of one assignment, at the most
_WORDS = (
    "none null nil true false undefined string str bytes int text any object required optional "
    "password passwd passphrase secret token key value empty hidden yes no input redacted"
)
_PLACEHOLDERS = frozenset(_WORDS.split())
# A variable, a template, a mask, an expression of a program, or an invitation to fill it in.
_PLACEHOLDER = (
    r"(?i:[$%<{(\[]|[*.•…_-]+\Z|x{3,}\Z|your|env[.:\[]|os\.|process\.|getenv|secrets?\.|vault:|file:|/|~/|\./"
    r"|\[redacted:)"
)
_IDENTIFIERS = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+"


def clean(text: str) -> str:
    """Return the text with what is given to names of secrets replaced by its kind."""
    text = compiled(_QUERY).sub(_judge_query, text) if "=" in text else text
    text = compiled(_OPTION).sub(_judge_option, text) if "--" in text else text
    done, parts = 0, []
    for start in _names(text):
        if start >= done and (match := compiled(_ASSIGNMENT).match(text, start)):
            fresh = _judge(match)
            if fresh is not None:
                parts += [text[done:start], fresh]
                done = match.end()
    return "".join([*parts, text[done:]]) if parts else text


def field(name: str, value: str) -> str | None:
    """Return what replaces the value of a field of that name; None when it may stay."""
    for start in _names(name):
        match = compiled(_ASSIGNMENT).match(f"{name}=x", start)
        if match and match.end() == len(name) + 2 and _is_secret(kind := _kind(match), value):
            return f"[redacted:{kind}]"
    return None


def beginning(text: str, start: int, end: int) -> int | None:
    """Return where something begins in the last line that may become an assignment."""
    line = text.rfind("\n", start, end) + 1
    start = max(start, line, end - LONGEST)
    while found := compiled(_BEGINNING).search(text, start, end):
        match = compiled(_ASSIGNMENT).match(text, found.start(), end)
        if match is None or match.end() == end:
            word = found.start()
            while word > line and not text[word - 1].isspace() and end - word < 2 * LONGEST:
                word -= 1
            return word
        start = match.end()  # whole, as something follows
    return None


def _kind(match: re.Match[str]) -> str:
    return "password" if match["password"] else "key" if match["key"] else "token"


def _names(text: str) -> list[int]:
    """Return where names may begin, in order.

    A search for each literal takes a hundredth of the time of a pattern that ignores case.
    """
    small = text.lower()
    if len(small) != len(text):  # a few capitals become two characters
        small = text.translate(_SMALL)
    found = []
    for literal in _LITERALS:
        start = small.find(literal)
        while start >= 0:
            found.append(start)
            start = small.find(literal, start + 1)
    start = small.find("key")
    while start >= 0:
        if before := compiled(_BEFORE_KEY).search(small, max(0, start - 11), start):
            found.append(before.start())
        start = small.find("key", start + 1)
    return sorted(found)


def _judge(match: re.Match[str]) -> str | None:
    """Return what replaces an assignment; None when it may stay."""
    kind = _kind(match)
    group = next(name for name in ("within", "double", "single", "bare") if match[name] is not None)
    value = match[group]
    quoted = group != "bare"
    if not (_is_secret(kind, value) if quoted else _is_secret_bare(match, kind, value)):
        return None
    before = match[0][: match.start(group) - match.start()]
    return f"{before}[redacted:{kind}]"


def _is_secret(kind: str, value: str) -> bool:
    if value.lower() in _PLACEHOLDERS or compiled(_PLACEHOLDER).match(value):
        return False
    if kind == "password":
        return True
    return len(value) >= 8 and _has_digit(value) and " " not in value


def _is_secret_bare(match: re.Match[str], kind: str, value: str) -> bool:
    """Judge a value without quotes, which may as well be prose or a piece of a program."""
    after = match.string[match.end() : match.end() + 1]
    given = match["given"]
    if after in ("(", "[") or value.lower() in _PLACEHOLDERS or compiled(_PLACEHOLDER).match(value):
        return False
    if compiled(_IDENTIFIERS).fullmatch(value) and (kind != "password" or not _has_digit(value)):
        return False
    if given == "=" and match["name"].isupper():  # as in an environment
        return not (value.isdigit() and len(value) < 4)
    if kind != "password":
        return len(value) >= 8 and _has_digit(value) and any(char.isalpha() for char in value)
    if len(value) < 3:
        return False
    if _has_digit(value) or any(char in "!@#%^*+~?$" for char in value.rstrip("!?")):
        return True
    if given == "=":  # a word alone, as in `host=db password=letmein`, and not in a call
        return after in ("", " ", "\t", "\n", ";", "&", '"', "'")
    # … and as in YAML, where a type or a heading would begin with a capital
    return given == ": " and after in ("", "\n", "\r") and value.islower()


def _judge_query(match: re.Match[str]) -> str:
    value = match["value"]
    lead = match["lead"].lower()
    longest = 16 if lead.endswith(("?key=", "&key=", ";key=")) else 4
    if compiled(_PLACEHOLDER).match(value) or len(value) < longest:
        return match[0]
    if not _has_digit(value) and len(value) < 16:
        return match[0]
    return f"{match['lead']}[redacted:query]"


def _judge_option(match: re.Match[str]) -> str:
    if not _is_secret("password", match["value"]) or not _has_digit(match["value"]):
        return match[0]
    return f"{match['lead']}[redacted:option]"


def _has_digit(text: str) -> bool:
    return any("0" <= char <= "9" for char in text)

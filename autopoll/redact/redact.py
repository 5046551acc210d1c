"""Secrets that must not lie in a message, a log or an audit line.

Each pattern hangs on a literal that a text without secrets hardly holds; the literal is looked for
first, so that an ordinary message costs microseconds. No pattern begins twice within one run of
characters (the look-behinds) or gives back what it took (the possessive `++`), so that the time
grows with the length of the text, whatever the text. The repeat in a private key could, and keeps
the memory for it, so its turns are bounded: a possessive one is wrong in Python before 3.11.4.
"""

import json
from typing import Any

from autopoll.redact import assignment
from autopoll.redact.pattern import compiled

# Tokens that begin with what their service is known by: name, literals, form.
_PREFIXED = [
    (name, literals, rf"()(?<![A-Za-z0-9_-]){form}")
    for name, literals, form in (
        ("google-key", ("AIza",), r"AIza[\w-]{35}(?![\w-])"),
        ("google-secret", ("GOCSPX-",), r"GOCSPX-[\w-]{20,}+"),
        ("google-token", ("ya29.",), r"ya29\.[\w-]{20,}+"),
        ("stripe-key", ("k_live_", "k_test_"), r"[sr]k_(?:live|test)_[A-Za-z0-9]{12,}+"),
        ("stripe-webhook", ("whsec_",), r"whsec_[A-Za-z0-9]{14,}+[A-Za-z0-9+/]*+=*+"),
        ("npm-token", ("npm_",), r"npm_[A-Za-z0-9]{36}(?![A-Za-z0-9])"),
        ("pypi-token", ("pypi-AgE",), r"pypi-AgE[\w-]{50,}+"),
        (
            "gitlab-token",
            ("glpat-", "gldt-", "glrt-", "glptt-"),
            r"gl(?:pat|dt|rt|ptt)-[\w.-]{20,}+",
        ),
        ("huggingface-token", ("hf_",), r"hf_[A-Za-z0-9]{30,}+"),
        ("sendgrid-key", ("SG.",), r"SG\.[\w-]{16,64}\.[\w-]{16,64}+"),
        ("twilio-key", ("SK",), r"SK[0-9a-f]{32}(?![0-9a-f])"),
        ("telegram-token", (":AA",), r"[0-9]{8,10}:AA[\w-]{33}(?![\w-])"),
        ("digitalocean-token", ("_v1_",), r"do[por]_v1_[0-9a-f]{64}"),
        ("shopify-token", ("shp",), r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}"),
        ("vault-token", ("hvs.",), r"hvs\.[\w-]{24,}+"),
        ("grafana-token", ("glsa_",), r"glsa_[A-Za-z0-9_]{16,}+[A-Za-z0-9+/_=]*+"),
        ("databricks-token", ("dapi",), r"dapi[0-9a-f]{32}(?:-[0-9])?"),
        ("groq-key", ("gsk_",), r"gsk_[A-Za-z0-9]{40,}+"),
        ("xai-key", ("xai-",), r"xai-[A-Za-z0-9]{40,}+"),
        ("replicate-token", ("r8_",), r"r8_[A-Za-z0-9]{32,}+"),
        ("perplexity-key", ("pplx-",), r"pplx-[A-Za-z0-9]{40,}+"),
        ("openrouter-key", ("sk-or-",), r"sk-or-(?:v1-)?[0-9a-f]{40,}+"),
        ("age-key", ("AGE-SECRET-KEY-1",), r"AGE-SECRET-KEY-1[A-Z0-9]{40,}+"),
        ("atlassian-token", ("ATATT3",), r"ATATT3[\w=-]{50,}+"),
        ("linear-key", ("lin_api_",), r"lin_api_[A-Za-z0-9]{30,}+"),
        ("notion-token", ("ntn_",), r"ntn_[A-Za-z0-9]{40,}+"),
        ("tailscale-key", ("tskey-",), r"tskey-[\w-]{20,}+"),
        ("newrelic-key", ("NRAK-",), r"NRAK-[A-Z0-9]{27}"),
        ("sentry-token", ("sntry",), r"sntry[su]_[A-Za-z0-9_]{16,}+[A-Za-z0-9+/=_]*+"),
        ("mailgun-key", ("key-",), r"key-[0-9a-f]{32}(?![0-9a-f])"),
    )
]

# name, literals of which one must occur, pattern. What its first group holds is kept. Outside of
# private keys none matches a quote or a backslash as a part of the secret.
_PATTERNS = (
    (
        "private-key",
        ("PRIVATE KEY",),
        r"()-----BEGIN [A-Z ]{0,24}PRIVATE KEY(?: BLOCK)?-----"
        r"(?:[A-Za-z0-9+/=\s:,.]++|\\[nr]|-(?!-)){0,20000}"
        r"(?:-----END [A-Z ]{0,24}PRIVATE KEY(?: BLOCK)?-----)?",
    ),
    ("aws-key", ("AKIA", "ASIA"), r"()(?<![A-Za-z0-9])A[KS]IA[A-Z2-7]{16}(?![A-Za-z0-9])"),
    (
        "aws-secret",
        ("ccess", "CCESS"),
        r"((?i:aws_?secret_?access_?key)[\"']?\s{0,3}[=:]\s{0,3}[\"']?)"
        r"[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+])",
    ),
    (
        "github-token",
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"),
        r"()(?<![A-Za-z0-9])gh[pousr]_[A-Za-z0-9]{36,}+",
    ),
    ("github-token", ("github_pat_",), r"()(?<![A-Za-z0-9_])github_pat_\w{22,}+"),
    ("anthropic-key", ("sk-ant-",), r"()(?<![A-Za-z0-9_-])sk-ant-[\w-]{20,}+"),
    (
        "openai-key",
        ("sk-",),
        r"()(?<![A-Za-z0-9_-])sk-(?:(?:proj|svcacct|admin)-[\w-]{20,}+|[A-Za-z0-9]{32,}+)",
    ),
    (
        "slack-token",
        ("xox", "xapp-"),
        r"()(?<![A-Za-z0-9])(?:xox[abeoprs]|xapp)-[A-Za-z0-9-]{10,}+",
    ),
    (
        "jwt",
        ("eyJ",),
        r"()(?<![\w-])eyJ[\w-]{8,}+\.eyJ[\w-]{8,}+\.[\w-]*+",
    ),
    (
        "azure-key",
        ("AccountKey=", "SharedAccessKey="),
        r"((?:AccountKey|SharedAccessKey)=)[A-Za-z0-9+/]{40,}+=*+",
    ),
    (
        "slack-webhook",
        ("hooks.slack.com/",),
        r"(hooks\.slack\.com/(?:services|workflows|triggers)/)[A-Za-z0-9/_-]{20,}+",
    ),
    (
        "discord-webhook",
        ("/api/webhooks/",),
        r"(/api/webhooks/[0-9]{10,24}/)[\w-]{30,}+",
    ),
    ("url-password", ("://",), r"(://[^\s/:@\[\"'\\]{0,128}:)[^\s/@\"'\\]{1,256}(?=@)"),
    ("url-token", ("://",), r"(://)(?=[A-Za-z_-]{0,255}[0-9])[\w-]{20,256}(?=@)"),
    (
        "bearer",
        ("earer", "EARER"),
        # A digit must be among it, or "bearer" followed by a long word would be a token.
        r"((?<![A-Za-z])(?i:bearer)\s{1,4})(?=[A-Za-z._~+/=-]*+[0-9])[\w.~+/-]{8,}+=*+",
    ),
    (
        "authorization",
        ("uthorization", "UTHORIZATION"),
        r"((?i:authorization)\\{0,3}[\"']?[ \t]{0,3}[:=][ \t]{0,3}\\{0,3}[\"']?"
        r"(?:(?i:bearer|basic|token|apikey|api-key|key|negotiate|ntlm|hawk|bot)[ \t]{1,4}|"
        r"(?=[A-Za-z._~+/=-]{0,64}[0-9])))"
        r"(?![\[<${*]|[\w.]{1,64}\(|(?i:your|token|none|null)\b)[\w.~+/:-]{3,4096}+=*+",
    ),
    (
        "digest",
        ("igest ", "IGEST "),
        r"((?:[Dd]igest|DIGEST)(?<![A-Za-z]......)\s[^\n\\]{0,512}?"
        r"\bresponse=[\"']?)[0-9a-fA-F]{32,128}",
    ),
    (
        "curl-user",
        ("curl ",),
        r"(-(?<!\S-)(?:u|-user)[ =][\"']?[\w.@+-]{1,64}:)"
        r"(?=[^\s\"'\\]{0,256}[^\s\"'\\0-9])(?![$<{\[])[^\s\"'\\]{1,256}+",
    ),
    (
        # autopoll's own; bare hex digits of that length are mostly hashes and stay.
        "token",
        ("oken", "OKEN"),
        r"((?i:token)[\"']?\s{0,3}[=:]\s{0,3}[\"']?)[0-9a-f]{64}(?![0-9a-f])",
    ),
)

_FORMS = (*_PREFIXED, *_PATTERNS)

# What several literals share and most texts do not hold: it is looked for in their place. With each
# the literals and the numbers of their forms.
_SHARED = ("A", "K", "S", "x", "gl", "gh", "k_", "sk-", "")
_LITERALS: dict[str, list[tuple[str, int]]] = {shared: [] for shared in _SHARED}
for _number, (_, _literals, _) in enumerate(_FORMS):
    for _literal in _literals:
        _LITERALS[next(each for each in _SHARED if each in _literal)].append((_literal, _number))

# What a secret hangs on, with white space before the secret itself, at the end of a text.
_LEAD = r"(?i:aws_?secret_?access_?key|token|bearer)[\"']?\s{0,3}(?:[=:]\s{0,3})?[\"']?\Z"
_LONGEST_LEAD = 40
_BREAK = r"[\s\x80-\U0010ffff]"  # no key or token goes over such a character
_KEY_BEGINS = "-----BEGIN "
_KEY_ENDS = r"-----END [A-Z ]{0,40}-----"


def redact(text: str) -> str:
    """Return the text with every secret that is known by its form or its name replaced by its kind.

    docs/configuration.md says what is covered.
    """
    some = [_LITERALS[shared] for shared in _SHARED if shared in text]
    if numbers := {number for each in some for literal, number in each if literal in text}:
        for name, _, pattern in map(_FORMS.__getitem__, sorted(numbers)):
            text = compiled(pattern).sub(rf"\g<1>[redacted:{name}]", text)
    return assignment.clean(text) if "=" in text or ":" in text or "--" in text else text


def settled(text: str) -> int:
    """Return how many characters of a text that still grows can be redacted as they stand.

    No secret begins in them and goes on in the rest, whatever is still to come.
    """
    end = compiled(_BREAK).search(text[::-1])  # of what is surely no part of a word that goes on
    cut = len(text) - end.start() if end else 0
    word = max(text.rfind(space, 0, cut) for space in " \n\t")
    if "://" in text[word + 1 : cut]:  # a password may hold any character
        cut = word + 1
    if lead := compiled(_LEAD).search(text, max(0, cut - _LONGEST_LEAD), cut):
        cut = lead.start()
    given = assignment.beginning(text, 0, cut)
    cut = cut if given is None else given
    begin = text.rfind(_KEY_BEGINS, 0, cut)
    return cut if begin < 0 or compiled(_KEY_ENDS).search(text, begin, cut) else begin


def redact_message(text: str) -> str:
    """Redact plain text or JSON; JSON stays JSON, and as it was when it holds no secret."""
    # An escape may hide a secret: \u0041KIA…, https:\/\/…
    plain = redact(text)
    if "\\" not in text and plain == text:
        return text
    if not text.lstrip().startswith(("{", "[", '"')):
        return plain
    try:
        value = json.loads(text)
        clean = _redacted(value)
    except (ValueError, RecursionError):
        return plain
    return text if clean == value else json.dumps(clean, ensure_ascii=False)


def _redacted(value: Any) -> Any:
    match value:
        case str():
            return redact(value)
        case list():
            return [_redacted(item) for item in value]
        case dict():
            return {redact(name): _field(redact(name), item) for name, item in value.items()}
    return value


def _field(name: str, value: Any) -> Any:
    """Redact a value together with its name, which may be what tells that it is a secret."""
    if not isinstance(value, str):
        return _redacted(value)
    if (kind := assignment.field(name, value)) is not None and redact(value) == value:
        return kind
    return redact(f"{name}={value}").removeprefix(f"{name}=")

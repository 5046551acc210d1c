"""Secrets are taken out, ordinary text is left alone, JSON stays JSON, and time stays linear."""

import json
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopoll.redact.redact import _FORMS, redact, redact_message, settled

HEX = "0123456789abcdef" * 4
KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIE+/pQ==\nabc\n-----END RSA PRIVATE KEY-----"

SECRETS = {
    "AKIAIOSFODNN7QQAMPLE": "aws-key",
    "ASIAIOSFODNN7QQAMPLE": "aws-key",
    "ghp_" + "aB3" * 12: "github-token",
    "github_pat_11ABCDEFG0" + "aB3_" * 15: "github-token",
    "sk-" + "aB3d" * 12: "openai-key",
    "sk-proj-" + "aB3_-" * 12: "openai-key",
    "sk-ant-api03-" + "aB3_-" * 12: "anthropic-key",
    "xoxb-1234567890-abcdefghij": "slack-token",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.sflKxwRJSMeKKF2QT4": "jwt",
    "AIza" + "aB3d_" * 7: "google-key",
    "GOCSPX-" + "aB3d_" * 6: "google-secret",
    "sk_live_" + "aB3d" * 6: "stripe-key",
    "rk_test_" + "aB3d" * 6: "stripe-key",
    "whsec_" + "aB3d" * 8: "stripe-webhook",
    "npm_" + "aB3d" * 9: "npm-token",
    "pypi-AgEIcHlwaS5vcmc" + "aB3d_" * 20: "pypi-token",
    "glpat-" + "aB3d" * 5: "gitlab-token",
    "hf_" + "aB3d" * 9: "huggingface-token",
    "SG." + "aB3d_" * 4 + "." + "aB3d_" * 8: "sendgrid-key",
    "SK" + "0123456789abcdef" * 2: "twilio-key",
    "123456789:AA" + "aB3" * 11: "telegram-token",
    "hvs." + "aB3d" * 7: "vault-token",
    "sk-or-v1-" + "0123456789abcdef" * 4: "openrouter-key",
    KEY: "private-key",
    KEY.replace("RSA", "OPENSSH"): "private-key",
    KEY.replace("RSA", "EC"): "private-key",
    KEY.replace("RSA PRIVATE KEY", "PGP PRIVATE KEY BLOCK"): "private-key",
    KEY.replace("RSA ", ""): "private-key",
}
KEPT = {
    "postgres://me:pa55%20w@db.local/x": "postgres://me:[redacted:url-password]@db.local/x",
    "https://:hunter2@host": "https://:[redacted:url-password]@host",
    "Authorization: Bearer abcdefghij0123456789+/==": "Authorization: Bearer [redacted:bearer]",
    f"token={HEX}": "token=[redacted:token]",
    f'"session_a_token": "{HEX}"': '"session_a_token": "[redacted:token]"',
    "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY": (
        "aws_secret_access_key = [redacted:aws-secret]"
    ),
}
GIVEN = {
    "password=hunter2": "password=[redacted:password]",
    'DB_PASSWORD="correct horse"': 'DB_PASSWORD="[redacted:password]"',
    "export DB_PASS='x \" y'": "export DB_PASS='[redacted:password]'",
    "export TOKEN=abcdef": "export TOKEN=[redacted:token]",
    "MYSQL_PWD=abc": "MYSQL_PWD=[redacted:password]",
    "host=db password=letmein dbname=x": "host=db password=[redacted:password] dbname=x",
    "Server=x;Uid=y;Pwd=letmein;": "Server=x;Uid=y;Pwd=[redacted:password];",
    "password: letmein\nuser: me": "password: [redacted:password]\nuser: me",
    "password: hunter2  # old": "password: [redacted:password]  # old",
    "secret_key = 'django-x'": "secret_key = '[redacted:password]'",
    "client_secret=p@ss-word": "client_secret=[redacted:password]",
    "password = grüße1": "password = [redacted:password]",
    "api_key: abcd1234efgh": "api_key: [redacted:key]",
    "X-Api-Key: abcd1234efgh": "X-Api-Key: [redacted:key]",
    "{'apiKey': 'abcd1234efgh'}": "{'apiKey': '[redacted:key]'}",
    '{\\"password\\": \\"abcd\\"}': '{\\"password\\": \\"[redacted:password]\\"}',
    "npm:_authToken=abcdef0123": "npm:_authToken=[redacted:token]",
    "mysql --password s3cret -h x": "mysql --password [redacted:option] -h x",
    "mysql --password=s3cret": "mysql --password=[redacted:password]",
    "curl -u me:s3cret https://x": "curl -u me:[redacted:curl-user] https://x",
    "Authorization: Bearer abc": "Authorization: Bearer [redacted:authorization]",
    "Bearer abc12345": "Bearer [redacted:bearer]",
    "authorization: token abc123": "authorization: token [redacted:authorization]",
    '-H "Authorization: Basic bWU6eA=="': '-H "Authorization: Basic [redacted:authorization]"',
    f'Digest username="x", response="{HEX[:32]}"': (
        'Digest username="x", response="[redacted:digest]"'
    ),
    "https://x/a?api_key=abcd1234&b=1": "https://x/a?api_key=[redacted:query]&b=1",
    "https://x/?sv=1&sig=abc%2Bd1&se=1": "https://x/?sv=1&sig=[redacted:query]&se=1",
    "/b?X-Amz-Signature=abcdef01&X-Amz-Date=1": "/b?X-Amz-Signature=[redacted:query]&X-Amz-Date=1",
    f"https://{HEX[:32]}@sentry.io/1": "https://[redacted:url-token]@sentry.io/1",
    f"AccountName=a;AccountKey={'aB3+' * 22}==;": "AccountName=a;AccountKey=[redacted:azure-key];",
    f"https://hooks.slack.com/services/T0/B0/{'aB3' * 8}": (
        "https://hooks.slack.com/services/[redacted:slack-webhook]"
    ),
}
# What is given to such a name and is no secret: empty, a variable, a mask, a program's expression.
NOT_GIVEN = """
the password is stored hashed
the secret: be kind
Enter your password: then press return
password: the one that you chose
token=next
password = input()
password = getpass.getpass('Password: ')
token = next(tokens)
password=
PASSWORD=""
password=$PASSWORD
TOKEN=${TOKEN}
password=%PASSWORD%
password=<password>
password=***
api_key=YOUR_API_KEY
password = os.environ["X1"]
token = os.environ['TOKEN1']
api_key = settings.api_key1
def f(password: str, token: str | None = None) -> None:
connect(user=user, password=password)
connect(password=pw)
if password == "x1":
max_tokens=4096
tokens: 100
"output_tokens": 512
token: 5
PWD=/root
OLDPWD=/home/me1
secret: true
password: string
password_file=/etc/x1
a?key=value&page_token=2
?token=next
docker run -u 1000:1000 and curl
Basic information is here
authorization: none is needed
authorization = base64.b64decode(authorization)
-- so --token is an option
""".strip().splitlines()
ORDINARY = [
    "",
    "why does the build fail?",
    f"sha256 {HEX} and sha1 {HEX[:40]}",
    f"image@sha256:{HEX}",
    "the task-force met; ask-them-about-the-long-kebab-case-identifier-of-the-thing",
    "sk-learn and sk-image-processing-with-long-words",
    "the bearer of internationalization-and-localization",
    "http://localhost:8080/path@version and user@host:22 and git@github.com:a/b.git",
    "https://example.org/a:b@c",
    "eyJ is how JSON in base64 begins; so do eyJhbGciOiJIUzI1NiJ9 alone",
    "AKIA is a prefix; MAKIAIOSFODNN7QQAMPLES is a word",
    "ghp_short xoxb-short token=abc",
    "\ud800 \0 \U0001f600",
]
# Beginnings over and over, beginnings with endless bodies, and near misses.
HOSTILE = [
    *(
        "password=",
        'password="',
        "password='",
        "password: ",
        "pass",
        "_pass=a",
        "secret_key",
        "key",
    ),
    *(
        "api_key=",
        "TOKEN=",
        "?key=",
        "&a-a-a-key=",
        "--token ",
        "--password a",
        "curl -u a",
        " -u a:",
    ),
    *(
        "Authorization: ",
        "Authorization: Basic ",
        "Digest ",
        'Digest response="',
        "SG.",
        "SK",
        ":AA",
    ),
    *("hooks.slack.com/services/", "AccountKey=", "/api/webhooks/", "sk_live_", "glpat-", "npm_"),
    *("AKIA", "gh", "ghp_", "github_pat_", "sk-", "sk-ant-", "sk-proj-", "xoxb-", "eyJ", "eyJa."),
    *("://", "://a", "://a:", "://:", "bearer ", "Bearer a", "bearer    ", "token", "token=", "=a"),
    *("-----BEGIN PRIVATE KEY-----", "-----BEGIN ", "-", "PRIVATE KEY", "aws_secret_access_key"),
    *("aws_secret_access_key=", "a", "A", "0", ".", "-a", "a.", "eyJaaaaaaaaaa.", "\\n", " ", "\n"),
]
BODIES = ["a1", "-", "eyJ.", " ", "\\n"]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("around", ["{}", "see {} there", "x={}, y", '"{}"', "({})", "{}\n"])
def test_a_secret_is_replaced_by_its_kind(secret: str, around: str) -> None:
    assert redact(around.format(secret)) == around.format(f"[redacted:{SECRETS[secret]}]")


@pytest.mark.parametrize("text", KEPT)
def test_what_tells_the_secret_is_kept(text: str) -> None:
    assert redact(text) == redact(redact(text)) == KEPT[text]


@pytest.mark.parametrize("text", GIVEN)
def test_what_is_given_to_the_name_of_a_secret_is_taken_out(text: str) -> None:
    assert redact(text) == redact(redact(text)) == GIVEN[text]
    assert redact(f"see: {text}\nand on") == f"see: {GIVEN[text]}\nand on"


@pytest.mark.parametrize("text", NOT_GIVEN)
def test_a_name_of_a_secret_alone_takes_nothing_out(text: str) -> None:
    assert redact(text) == redact(f"{text}\nand {text}").split("\n")[0] == text


def test_a_field_of_json_is_taken_out_whole_by_its_name() -> None:
    given = {
        "db_password": 'correct horse "battery" staple',
        "n": 1,
        "page": {"access_token": "abcd1234", "next_token": "page two", "token_count": 12345678},
        "env": ["PASSWORD=ab y", "password is asked for"],
    }
    assert json.loads(redact_message(json.dumps(given))) == {
        "db_password": "[redacted:password]",
        "n": 1,
        "page": {
            "access_token": "[redacted:token]",
            "next_token": "page two",
            "token_count": 12345678,
        },
        "env": ["PASSWORD=[redacted:password] y", "password is asked for"],
    }


@pytest.mark.parametrize("text", GIVEN)
@pytest.mark.parametrize("size", [1, 3, 11])
def test_what_still_grows_is_never_settled_in_the_middle_of_a_secret(text: str, size: int) -> None:
    whole = f"so: {text} and\nthen {text}\nend."
    told, held = "", ""
    for start in range(0, len(whole), size):
        held += whole[start : start + size]
        cut = settled(held)
        told, held = told + redact(held[:cut]), held[cut:]
    assert told + redact(held) == redact(whole)


def test_the_documents_of_the_project_and_the_library_of_python_are_left_alone() -> None:
    """Of the library a part whose text holds many such names; two in a megabyte are too many."""
    root = Path(__file__).parents[2]
    library = Path(sysconfig.get_paths()["stdlib"])
    files = [*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob("autopoll/**/*.py")]
    for path in files:
        assert redact(path.read_text()) == path.read_text(), path
    names = ("getpass.py", "netrc.py", "ftplib.py", "secrets.py", "hmac.py", "tokenize.py")
    for path in [library / name for name in names] + [*library.glob("email/*.py")]:
        assert redact(path.read_text()) == path.read_text(), path


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert redact(text) == redact_message(text) == text


def test_a_private_key_without_its_end_is_taken_out_too() -> None:
    assert redact(KEY[:45]) == "[redacted:private-key]"
    assert redact(KEY + "\nHello") == "[redacted:private-key]\nHello"


def test_what_looks_like_an_endless_key_takes_no_memory_to_redact() -> None:
    """In a process of its own, as the regular expressions' memory is not Python's."""
    code = (
        "import resource; from autopoll.redact.redact import redact;"
        "text = '-----BEGIN PRIVATE KEY-----' + 'a-' * 500_000;"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "before = peak(); redact(text); print(peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 30_000, "kilobytes; unbounded it takes 145,000"


@pytest.mark.parametrize("secret", [*SECRETS, *KEPT, *GIVEN])
def test_json_is_json_afterwards(secret: str) -> None:
    escaped = "".join(f"\\u{ord(char):04x}" for char in secret)
    for text in (
        json.dumps({"question": f"is {secret} ok?", "n": [1, None, {"deep": secret}], secret: 1}),
        f'{{"question": "is {escaped} ok?"}}',
        json.dumps({"question": secret}).replace("/", "\\/"),
        json.dumps([secret]),
        json.dumps(secret),
    ):
        clean = redact_message(text)
        json.loads(clean)
        assert "[redacted:" in clean
        assert secret not in json.dumps(json.loads(clean))


def test_a_key_names_its_value_as_a_secret() -> None:
    assert json.loads(redact_message(json.dumps({"token": HEX, "sha256": HEX, "n": 5}))) == {
        "token": "[redacted:token]",
        "sha256": HEX,
        "n": 5,
    }


def test_two_halves_of_a_key_in_two_strings_do_not_swallow_what_is_between() -> None:
    text = json.dumps({"a": KEY[:45], "between": 'a "quoted" \\ text', "b": KEY[45:]})
    assert json.loads(redact_message(text))["between"] == 'a "quoted" \\ text'


def test_json_without_secrets_is_not_rewritten() -> None:
    text = '{ "a":1.0e2,"b" : "\\u00e9\\/", "a":NaN }'
    assert redact_message(text) == text


def test_json_nested_too_deeply_is_redacted_as_text() -> None:
    text = '{"a":' * 100_000 + "AKIAIOSFODNN7QQAMPLE"
    assert redact_message(text).endswith("[redacted:aws-key]")


@given(st.text(), st.sampled_from(HOSTILE), st.sampled_from([*SECRETS, *KEPT, *GIVEN]))
def test_redacting_twice_is_redacting_once_and_json_survives(
    text: str, hostile: str, secret: str
) -> None:
    value = {text: [hostile + text + secret, {"x": text}]}
    once = redact_message(json.dumps(value))
    assert redact_message(once) == once
    assert isinstance(json.loads(once), dict)


def seconds(text: str) -> float:
    start = time.process_time()  # of this process alone, whatever else the machine does
    redact(text)
    return time.process_time() - start


# All literals stand in front, so that every pattern is tried on every text.
LITERALS = " ".join(literal for _, literals, _ in _FORMS for literal in literals) + " "


@pytest.mark.parametrize("begin", HOSTILE)
@pytest.mark.parametrize("body", [None, *BODIES])
def test_the_time_grows_with_the_length_and_not_with_its_square(
    begin: str, body: str | None
) -> None:
    unit = begin if body is None else body
    start = "" if body is None else begin

    def text(size: int) -> str:
        return LITERALS + start + unit * (size // len(unit))

    # Eight times the text takes about eight times the time; a square would take 64 times.
    # The best of some tries, because a busy machine makes the small one look too fast.
    ratios = (seconds(text(50_000)) / seconds(text(6_250)) for _ in range(5))
    assert any(ratio < 16 for ratio in ratios)

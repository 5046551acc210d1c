"""What `--json` of each command prints: a schema for each, and a line that runs it.

A schema holds what others rely on. Fields may be added to what a command prints; one that goes, or
changes its type, is an error.
"""

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
ANY: Schema = {}
TIME: Schema = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d.*(Z|\+00:00)$"}


def a(**fields: Schema) -> Schema:
    """Return the schema of an object with at least these fields."""
    return {"type": "object", "properties": fields, "required": list(fields)}


def some(of: Schema) -> Schema:
    return {"type": "array", "items": of}


def each(of: Schema) -> Schema:
    """Return the schema of an object that maps names to values of one kind."""
    return {"type": "object", "additionalProperties": of}


def maybe(of: Schema) -> Schema:
    return {"anyOf": [of, {"type": "null"}]}


def one_of(*words: str) -> Schema:
    return {"enum": [*words]}


TOKENS = a(a=TEXT, b=TEXT)
SPENT = a(input_tokens=COUNT, output_tokens=COUNT, cached_tokens=COUNT, cost_usd=maybe(NUMBER),
          answers=COUNT)  # fmt: skip
REMARKS = a(total=COUNT, failed=COUNT,
            files=some(a(file=TEXT, reason=TEXT, skipped=FLAG, failed=FLAG)))  # fmt: skip
SHARD = a(name=TEXT, backend=TEXT, instances=COUNT, ready=COUNT, in_flight=COUNT,
          paused=maybe(TEXT), usage_today=SPENT, context_remarks=REMARKS)  # fmt: skip
HOST = a(host=TEXT, home=TEXT, folder=TEXT, version=TEXT, shards=some(TEXT), beat_age_ms=COUNT,
         alive=FLAG, in_flight=COUNT)  # fmt: skip
PROCESS = a(name=TEXT, role=one_of("poller", "worker", "watchdog", "gateway"), state=TEXT,
            pid=maybe(COUNT), uptime_s=maybe(NUMBER), restarts=COUNT, rss_bytes=maybe(COUNT),
            fds=maybe(COUNT), note=TEXT, version=maybe(TEXT))  # fmt: skip
STATUS = a(ready=FLAG, supervisord=TEXT, processes=some(PROCESS), shards=some(SHARD),
           queue=maybe(a(queued=COUNT, ready=COUNT, leased=COUNT, done=COUNT, dead=COUNT)),
           latency_ms=a(p50=maybe(COUNT), p99=maybe(COUNT)), problems=some(TEXT),
           version=TEXT, supervisord_version=maybe(TEXT), last_change=maybe(TEXT),
           disks=some(a(folder=TEXT, free=COUNT)),
           hosts=some(HOST))  # fmt: skip
RESULT = a(id=COUNT, status=one_of("answered", "error", "pending"), answer=maybe(TEXT),
           sources=some(TEXT), shard=maybe(TEXT), attempts=COUNT,
           latency_ms=maybe(COUNT))  # fmt: skip
MESSAGE = a(id=COUNT, conversation=TEXT, sender=TEXT, recipient=TEXT, text=TEXT,
            metadata=maybe(TEXT), timestamp=TEXT, read=FLAG)  # fmt: skip
CONVERSATION = a(id=TEXT, role_a=TEXT, role_b=TEXT, created_at=TEXT, expires_at=maybe(TEXT),
                 revoked=some(TEXT), served=each(TEXT), messages=COUNT)  # fmt: skip
DEAD = a(message_id=COUNT, conversation=TEXT, shard=TEXT, attempts=COUNT, last_error=TEXT,
         settled_at=COUNT, text=TEXT)  # fmt: skip
INCIDENT = a(at=TIME, process=TEXT, verdict=TEXT, action=TEXT, evidence=TEXT,
             recovered_ms=maybe(COUNT), closed=maybe(TEXT), host=TEXT)  # fmt: skip
TRIAL = a(shard=TEXT, backend=TEXT, ok=FLAG,
          steps=some(a(name=TEXT, ok=FLAG, ms=maybe(NUMBER), detail=TEXT)))  # fmt: skip
HOLDS = a(schema=COUNT, bytes=COUNT, messages=COUNT, conversations=COUNT)

FINDING = a(
    name=TEXT, ok=FLAG, state=one_of("ok", "degraded", "failed", "unknown"), detail=TEXT, mend=TEXT
)
SCHEMAS: dict[str, Schema] = {
    "init": a(home=TEXT, conversation=TEXT, tokens=maybe(TOKENS)),
    "up": a(home=TEXT, ready=FLAG),
    "down": a(home=TEXT, was_up=FLAG),
    "restart": a(home=TEXT, restarted=maybe(TEXT)),
    "reload": a(added=some(TEXT), changed=some(TEXT), removed=some(TEXT), unchanged=some(TEXT),
                poller=TEXT, gateway=TEXT, waiting=each(COUNT)),
    "shards": SHARD,
    "shards list": SHARD,
    "shards add": a(shard=TEXT, new=FLAG, running=FLAG, trial=maybe(TRIAL)),
    "shards remove": a(shard=TEXT, running=FLAG, given_up=ANY, unserved=ANY, elsewhere=ANY),
    "shards test": TRIAL,
    "ask": {"anyOf": [RESULT, a(id=COUNT, status=one_of("pending"))]},
    "answer": RESULT,
    "trace": a(id=COUNT, state=TEXT, question=TEXT, conversation=TEXT, shard=maybe(TEXT),
               attempts=COUNT, total_ms=maybe(COUNT),
               events=some(a(at=TIME, state=TEXT, detail=TEXT)),
               hops=some(a(hop=TEXT, ms=COUNT)), waits=some(TEXT), notes=some(TEXT), usage=ANY,
               answer_id=maybe(COUNT), answer_to=maybe(COUNT), retry_of=maybe(COUNT),
               retried_as=maybe(COUNT), clock=TEXT),
    "conversations create": a(conversation=TEXT, tokens=TOKENS),
    "conversations list": CONVERSATION,
    "conversations show": CONVERSATION,
    "conversations search": a(conversations=some(CONVERSATION), messages=some(MESSAGE),
                              searched=COUNT, before=maybe(COUNT)),
    "conversations rotate": a(conversation=TEXT, session=one_of("a", "b"), token=maybe(TEXT),
                              kept=FLAG),
    "conversations revoke": a(conversation=TEXT, session=one_of("a", "b"), revoked=FLAG),
    "messages": MESSAGE,
    "inbox": MESSAGE,
    "send": a(id=COUNT, conversation=TEXT, session=one_of("a", "b")),
    "serve": a(conversation=TEXT, session=one_of("a", "b"), shard=maybe(TEXT)),
    "bridge sql": a(schema=TEXT, grants=TEXT),
    "bridge copy": a(source=TEXT, target=TEXT, tables=each(COUNT), left_out=each(COUNT),
                     not_copied=some(TEXT), replaced=ANY),
    "mcp install": a(client=TEXT, name=TEXT, file=maybe(TEXT), entry=ANY, command=ANY,
                     change=one_of("added", "replaced", "unchanged", "printed")),
    "status": STATUS,
    "top": a(at=COUNT, status=STATUS, incidents=some(a(at=TIME, process=TEXT, verdict=TEXT)),
             shards=some(a(status=SHARD, waiting=COUNT, oldest_s=maybe(NUMBER), per_minute=COUNT,
                           p50_ms=maybe(COUNT), p99_ms=maybe(COUNT)))),
    "health": a(verdict=one_of("ok", "degraded", "down"),
                checks=some(a(name=TEXT, ok=FLAG, detail=TEXT))),
    "queue": a(id=COUNT, shard=TEXT, state=one_of("sent", "queued", "ready", "leased"),
               age_s=NUMBER, asked_at=COUNT, conversation=TEXT, asker=TEXT, role=TEXT,
               attempt=COUNT, worker=maybe(TEXT), since=maybe(COUNT), host=maybe(TEXT),
               home=maybe(TEXT), last_error=maybe(TEXT), cancelled=maybe(TEXT),
               paused=maybe(TEXT)),
    "cancel": a(id=COUNT, cancelled=FLAG, outcome=TEXT, was=maybe(TEXT), state=maybe(TEXT)),
    "pause": a(shard=TEXT, by=TEXT, since=COUNT, until=maybe(COUNT), reason=TEXT, words=TEXT),
    "resume": a(shard=TEXT, ended=some(TEXT), paused=maybe(TEXT)),
    "hosts": HOST,
    "incidents": INCIDENT,
    "dead list": DEAD,
    "dead show": DEAD,
    "dead retry": a(id=COUNT, retries=COUNT),
    "dead drop": a(id=COUNT, dropped=FLAG),
    "faults": a(fault=TEXT, noticed_ms=maybe(NUMBER), answered_ms=maybe(NUMBER), lost=COUNT,
                twice=COUNT),
    "doctor": a(verdict=one_of("ok", "degraded", "down"), first=maybe(FINDING), fixed=some(TEXT),
                checks=some({**FINDING, "required": [*FINDING["required"], "hop"]})),
    "backup": a(file=TEXT, holds=HOLDS, not_in_it=some(TEXT)),
    "restore": a(file=TEXT, holds=HOLDS, bridge=TEXT, kept=ANY),
    "prune": a(dry_run=FLAG, removed=each(COUNT), files=each(COUNT), database_bytes=COUNT,
               free_bytes=COUNT, freed_bytes=maybe(COUNT), is_up=FLAG),
    "service install": a(name=TEXT, scope=one_of("user", "system"), file=TEXT, unit=TEXT,
                         written=FLAG, lingers=FLAG),
    "service remove": a(name=TEXT, scope=one_of("user", "system"), file=TEXT, removed=FLAG),
    "service status": a(name=TEXT, scope=one_of("user", "system"), file=TEXT, installed=FLAG,
                        active=TEXT, enabled=TEXT, status=TEXT, lingers=FLAG),
    "completion": a(shell=TEXT, script=TEXT),
    "logs": a(process=TEXT, at=TEXT, text=TEXT),
    "audit": a(id=COUNT, at=TIME, conversation=maybe(TEXT), session=maybe(TEXT), action=TEXT,
               details=ANY),
    "gateway token": {"type": "object", "minProperties": 1},
    "desk": a(url=TEXT, code=TEXT, expires_s=COUNT),
}  # fmt: skip

# They run until they are stopped, and print none.
WITHOUT_JSON = {"poller", "worker", "watchdog", "gateway", "mcp"}
# Run in a test of their own.
APART = {"bridge copy", "desk", "faults"}
# On a home with the shards main and docs, and a dead letter; {…} is what an earlier line made.
RUNS = """
init fresh
up
status
top
health
health --deep
doctor
hosts
shards
shards list
shards test main
shards add extra --backend echo
shards remove extra
ask why?
ask why? --no-wait
ask why? --shard main,docs
answer {answered}
trace {answered}
trace {dead}
conversations create --shard main
conversations list
conversations show {conversation}
conversations search why
conversations rotate {conversation} b
conversations revoke {conversation} b
conversations rotate {conversation} a
serve {conversation} --session b --stop
serve {conversation} --session b --shard main
messages
messages --unread
send {own} hello
inbox {own}
bridge sql --role agents
mcp install --print
pause main
status
ask why? --no-wait
queue
cancel {answered}
resume main
resume main
dead list
dead show {dead}
dead retry {dead}
dead drop --all --yes
audit
logs -n 20
incidents
completion bash
service install --dry-run
service status --name autopoll-of-a-test
service remove --name autopoll-of-a-test
gateway token
prune --older-than 30d --dry-run
backup copy.db
restart worker
reload
down
status
health
restore copy.db
top
""".strip().splitlines()

"""What programs that are generated from the OpenAPI document rely on."""

from pathlib import Path

from autopoll.gateway.app import make_app
from autopoll.gateway.audit import Audit
from autopoll.gateway.hub import Hub
from autopoll.home.config import load
from autopoll.home.home import Home

RECORDS = {
    "CancelledQuestion", "Conversation", "Conversations", "DeadLetter", "DeadLetters", "Disk",
    "Health", "Hop", "Host", "Hosts", "Incident", "Incidents", "Latency", "Message", "Messages",
    "NewConversation", "NewMessage", "NewStatus", "Pause", "PausedShard", "Presence", "Presences",
    "Problem", "Process", "Question", "QuestionTrace", "Queue", "QueuedQuestion", "Remark",
    "Remarks", "ResumedShard", "Result", "Shards", "ShardStatus", "Spent", "Status", "Stored",
    "Tokens", "TraceEvent", "Usage",
}  # fmt: skip


def test_the_records_are_published_under_the_names_that_generated_clients_know(
    tmp_path: Path,
) -> None:
    home = Home(tmp_path)
    home.config.write_text('[shards.main]\nbackend = "echo"\n')
    hub = Hub(home, load(home, {}))
    schemas = make_app(hub, Audit(hub)).openapi()["components"]["schemas"]
    assert set(schemas) == RECORDS
    assert {name: schema["title"] for name, schema in schemas.items()} == {
        name: name for name in RECORDS
    }

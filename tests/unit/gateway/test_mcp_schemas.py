"""What agents are told of the tools."""

from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from autopoll.gateway.mcp.tools import TOOLS, schema

# What agents of the existing bridges call, and with what.
KNOWN = {
    "create_conversation": {"my_role", "partner_role"},
    "send_to_partner": {
        "conversation_id", "session_id", "token", "message", "action_type", "files_involved",
    },
    "check_messages": {"conversation_id", "session_id", "token"},
    "update_my_status": {"conversation_id", "session_id", "token", "status"},
    "check_partner_status": {"conversation_id", "session_id", "token"},
}  # fmt: skip
LOOKS = {
    "get_answer", "trace_question", "list_shards", "recent_messages", "check_partner_status",
    "list_queue",
}  # fmt: skip


def parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield every schema within a schema."""
    if isinstance(schema, dict):
        yield schema
        for value in schema.values():
            yield from parts(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from parts(value)


@pytest.mark.parametrize("name", TOOLS)
def test_the_schemas_of_a_tool_are_valid_json_schema(name: str) -> None:
    listed = TOOLS[name].listed()
    for each in (listed.input_schema, listed.output_schema):
        Draft202012Validator.check_schema(each)
        assert each["type"] == "object"


@pytest.mark.parametrize("name", TOOLS)
def test_what_a_tool_takes_is_bounded_and_nothing_else_is_taken(name: str) -> None:
    takes = schema(TOOLS[name].takes)
    assert takes["additionalProperties"] is False
    for part in parts(takes):
        match part.get("type"):
            case "string":
                assert "maxLength" in part, part
            case "array":
                assert "maxItems" in part, part
            case "integer" | "number":
                assert "maximum" in part, part
                assert "minimum" in part, part


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_says_what_it_does_and_what_it_changes(name: str) -> None:
    listed = TOOLS[name].listed()
    assert listed.description
    assert listed.description.count(".") >= 2
    assert listed.annotations
    assert listed.annotations.read_only_hint == (name in LOOKS)
    assert listed.annotations.destructive_hint is False


@pytest.mark.parametrize("name", KNOWN)
def test_what_agents_know_is_still_taken(name: str) -> None:
    assert KNOWN[name] <= schema(TOOLS[name].takes)["properties"].keys()

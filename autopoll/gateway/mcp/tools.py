"""The tools: what each is called with, what it returns, what it changes; a table of them all."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from mcp_types import CallToolResult, TextContent, ToolAnnotations
from mcp_types import Tool as Listed

from autopoll.client.result import Result
from autopoll.errors import AutopollError, UsageError
from autopoll.gateway import strict_json
from autopoll.gateway.mcp import message_tools, question_tools, queue_tools
from autopoll.gateway.mcp.call import Call, ToolReply
from autopoll.ops.pausing import PausedShard, ResumedShard
from autopoll.ops.question_trace import QuestionTrace
from autopoll.ops.queue_view import QueueView


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """One tool. Its function takes the call and its arguments, and raises AutopollError."""

    run: Callable[[Call, Any], Awaitable[ToolReply]]
    takes: type[msgspec.Struct]
    gives: type[msgspec.Struct]
    title: str
    reads: bool = False  # changes nothing, so that it may be called at any time
    repeats: bool = False  # the second of two same calls changes nothing more
    models: bool = False  # what answers is outside: a model, which may look anywhere

    @property
    def name(self) -> str:
        """The name it is called by: that of its function."""
        return self.run.__name__

    def listed(self) -> Listed:
        """Return its description for clients."""
        return Listed(
            name=self.name,
            title=self.title,
            description=" ".join((self.run.__doc__ or "").split()),
            input_schema=schema(self.takes),
            output_schema=schema(self.gives),
            annotations=ToolAnnotations(
                title=self.title,
                read_only_hint=self.reads,
                destructive_hint=False,
                idempotent_hint=self.reads or self.repeats,
                open_world_hint=self.models,
            ),
        )


TOOLS: Mapping[str, Tool] = {
    tool.name: tool
    for tool in (
        Tool(
            run=question_tools.ask,
            takes=question_tools.Ask,
            gives=Result,
            title="Ask a shard",
            models=True,
        ),
        Tool(
            run=question_tools.get_answer,
            takes=question_tools.GetAnswer,
            gives=Result,
            title="Fetch an answer",
            reads=True,
        ),
        Tool(
            run=question_tools.trace_question,
            takes=question_tools.TraceQuestion,
            gives=QuestionTrace,
            title="Trace a question",
            reads=True,
        ),
        Tool(
            run=question_tools.list_shards,
            takes=question_tools.ListShards,
            gives=question_tools.AskableShards,
            title="List the shards",
            reads=True,
        ),
        Tool(
            run=message_tools.create_conversation,
            takes=message_tools.CreateConversation,
            gives=message_tools.NewTokens,
            title="Create a conversation",
        ),
        Tool(
            run=message_tools.send_to_partner,
            takes=message_tools.SendToPartner,
            gives=message_tools.StoredMessage,
            title="Send a message",
        ),
        Tool(
            run=message_tools.check_messages,
            takes=message_tools.CheckMessages,
            gives=message_tools.ShownMessages,
            title="Take unread messages",
        ),
        Tool(
            run=message_tools.recent_messages,
            takes=message_tools.RecentMessages,
            gives=message_tools.ShownMessages,
            title="Look at messages",
            reads=True,
        ),
        Tool(
            run=message_tools.update_my_status,
            takes=message_tools.UpdateMyStatus,
            gives=message_tools.SessionStatus,
            title="Tell my status",
            repeats=True,
        ),
        Tool(
            run=message_tools.check_partner_status,
            takes=message_tools.CheckPartnerStatus,
            gives=message_tools.SessionStatus,
            title="See the partner's status",
            reads=True,
        ),
        Tool(
            run=queue_tools.list_queue,
            takes=queue_tools.ListQueue,
            gives=QueueView,
            title="List what waits",
            reads=True,
        ),
        Tool(
            run=queue_tools.cancel_question,
            takes=queue_tools.CancelQuestion,
            gives=queue_tools.CancelReport,
            title="Take a question back",
        ),
        Tool(
            run=queue_tools.pause_shard,
            takes=queue_tools.PauseShard,
            gives=PausedShard,
            title="Pause a shard",
        ),
        Tool(
            run=queue_tools.resume_shard,
            takes=queue_tools.ResumeShard,
            gives=ResumedShard,
            title="Resume a shard",
            repeats=True,
        ),
    )
}


async def call_tool(call: Call, name: str, arguments: Mapping[str, Any]) -> CallToolResult:
    """Call a tool; whatever the caller did wrong comes back as a result that says the mend."""
    try:
        tool = TOOLS.get(name)
        if tool is None:
            raise UsageError(f"there is no tool {name[:100]!r}", f"There are: {', '.join(TOOLS)}.")
        reply = await tool.run(call, _read(tool, arguments))
    except AutopollError as error:
        return CallToolResult(content=[_text(str(error))], is_error=True)
    encoded = strict_json.encode(reply.value)
    content = [_text(encoded.decode())]
    if reply.note:
        # First where the call failed, as that is what the model reads first.
        content.insert(0 if reply.failed else 1, _text(reply.note))
    return CallToolResult(
        content=list(content),
        structured_content=json.loads(encoded),
        is_error=reply.failed,
    )


def schema(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the JSON schema (2020-12) of an object, with the object itself at its root."""
    (root,), parts = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    made: dict[str, Any] = parts.pop(root["$ref"].rpartition("/")[2])
    del made["title"], made["description"]  # the tool has its own, and models read every word
    return made | ({"$defs": parts} if parts else {})


def _read(tool: Tool, arguments: Mapping[str, Any]) -> msgspec.Struct:
    try:
        return msgspec.convert(arguments, tool.takes)
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `$")
        where = path.strip(".`")
        known = ", ".join(field.encode_name for field in msgspec.structs.fields(tool.takes))
        raise UsageError(
            f"{tool.name}: {where + ': ' if where else ''}{_plain(what)}",
            f"Its arguments: {known or 'none'}.",
        ) from None


def _plain(what: str) -> str:
    """Return the library's words in those of a tool's arguments."""
    text = what.removeprefix("Object ").replace("missing required field", "lacks the argument")
    return text.replace("contains unknown field", "there is no argument").replace("`", "'")


def _text(text: str) -> TextContent:
    return TextContent(type="text", text=strict_json.text(text))

"""What an agent is told: the server's instructions, and a prompt that explains how to ask."""

from collections.abc import Collection, Mapping

from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    GetPromptResult,
    Prompt,
    PromptArgument,
    PromptMessage,
    TextContent,
)

from autopoll.gateway import strict_json
from autopoll.home.config import ShardSection

INSTRUCTIONS = """\
autopoll keeps warm AI agents, called shards, answering around the clock. Use `ask` for anything a \
shard may know of its files: it sends a question, waits, and returns the answer with its sources \
(path:first-last line). `list_shards` says whom you can ask. A question is never lost: when `ask` \
ends before the answer is there, fetch it with `get_answer` and the id, and do not ask again. To \
talk with another agent, use the conversations: send_to_partner, check_messages, \
check_partner_status. Read what was said with recent_messages or the resources; that takes nothing.
"""
ASK = Prompt(
    name="ask_a_shard",
    title="How to ask a shard",
    description="Explains how to ask a shard, and lists the shards.",
    arguments=[
        PromptArgument(name="shard", description="The shard to ask; else choose one."),
        PromptArgument(name="question", description="What you want to know, in rough words."),
    ],
)
_LONGEST = 20_000


def require(name: str, arguments: Collection[str]) -> None:
    """Raise MCPError for a prompt that is not there, and for what is no argument of it."""
    if name != ASK.name:
        raise MCPError(INVALID_PARAMS, f"there is no prompt {name[:100]!r}; there is {ASK.name}")
    unknown = sorted(set(arguments) - {"shard", "question"})
    if unknown:
        raise MCPError(
            INVALID_PARAMS, f"{ASK.name} takes shard and question, not {unknown[0][:100]!r}"
        )


def ask_a_shard(
    shards: Mapping[str, ShardSection], name: str, arguments: Mapping[str, str]
) -> GetPromptResult:
    """Return the prompt with the shards that may be asked; raise MCPError as `require` does."""
    require(name, arguments.keys())
    shard = arguments.get("shard")
    if shard and shard not in shards:
        known = ", ".join(shards)
        raise MCPError(INVALID_PARAMS, f"there is no shard {shard[:100]!r}; there are: {known}")
    lines = [
        f"Ask the shard {shard} with the tool `ask`."
        if shard
        else "Choose the shard that fits, and ask it with the tool `ask`.",
        "",
        "The shards:",
        *(
            f"- {each}: backend {section.backend}, knows {', '.join(section.context) or 'no files'}"
            for each, section in shards.items()
        ),
        "",
        "How to ask well:",
        "- A shard sees nothing of this conversation. Put everything it needs into the question.",
        "- Ask one thing at a time, in a whole sentence, with the names that stand in the files.",
        "- `context_file` points it to one file of its context.",
        "- The answer comes with `sources` as path:first-last line. Look there before you rely on"
        " it, and cite them.",
        "- Status `pending`: the answer takes longer. Go on with other work and fetch it with"
        " `get_answer` and the id; do not ask again.",
        "- An error says what to mend. A question that failed is not answered later; mend what"
        " the reason says, and ask anew.",
    ]
    if question := arguments.get("question"):
        lines += ["", f"What I want to know: {question[:_LONGEST]}"]
    text = strict_json.text("\n".join(lines))
    return GetPromptResult(
        description=ASK.description,
        messages=[
            PromptMessage(role="user", content=TextContent(type="text", text=text)),
        ],
    )

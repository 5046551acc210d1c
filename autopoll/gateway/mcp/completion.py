"""Completion: the names that may stand in an argument of the prompt or of the template."""

from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    Completion,
    CompletionArgument,
    PromptReference,
    ResourceTemplateReference,
)

from autopoll.gateway import strict_json
from autopoll.gateway.mcp import prompts, resources
from autopoll.gateway.mcp.call import Call
from autopoll.gateway.usecases import UseCases

MOST = 100  # values of one completion, by the protocol


async def complete(
    call: Call, reference: PromptReference | ResourceTemplateReference, argument: CompletionArgument
) -> Completion:
    """Return the names that begin with what is written so far, in upper case or lower.

    Raises MCPError for a prompt or a template that is not there, and for what is no argument of it.
    """
    begun = argument.value.casefold()
    names = await call.use(lambda use: _names(use, reference, argument.name))
    fit = [strict_json.text(each) for each in names if each.casefold().startswith(begun)]
    return Completion(values=fit[:MOST], total=len(fit), has_more=len(fit) > MOST)


def _names(
    use: UseCases, reference: PromptReference | ResourceTemplateReference, argument: str
) -> list[str]:
    if isinstance(reference, PromptReference):
        prompts.require(reference.name, {argument})
        return list(use.shards()) if argument == "shard" else []
    if reference.uri != resources.TEMPLATE.uri_template:
        raise MCPError(
            INVALID_PARAMS,
            f"there is no template {reference.uri[:300]!r}; there is "
            f"{resources.TEMPLATE.uri_template}",
        )
    if argument != "id":
        raise MCPError(INVALID_PARAMS, f"the template takes id, not {argument[:100]!r}")
    return [each.id for each in resources.conversations(use)]

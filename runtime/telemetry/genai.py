"""The names of spans and attributes: OpenTelemetry's conventions for generative AI, OpenInference's, and our own.

The ``gen_ai.*`` names are under development and still move, so they are strings here and not those of a package: version 0.1.0 of
their own repository puts ``gen_ai.agent.name`` in the place of ``gen_ai.workflow.name``. For one release both are written.
"""

from __future__ import annotations

from typing import Final

INVOKE_WORKFLOW: Final = "invoke_workflow"
CHAT: Final = "chat"
EMBEDDINGS: Final = "embeddings"
EXECUTE_TOOL: Final = "execute_tool"

OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
RESPONSE_MODEL: Final = "gen_ai.response.model"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHED_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
AGENT_NAME: Final = "gen_ai.agent.name"
WORKFLOW_NAME: Final = "gen_ai.workflow.name"
TOOL_NAME: Final = "gen_ai.tool.name"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
TOKEN_TYPE: Final = "gen_ai.token.type"
TOKEN_USAGE: Final = "gen_ai.client.token.usage"
"""A metric, like the next."""
OPERATION_DURATION: Final = "gen_ai.client.operation.duration"
FIRST_CHUNK_S: Final = "gen_ai.response.time_to_first_chunk"

ERROR_TYPE: Final = "error.type"

RUN_ID: Final = "understudy.run.id"
GRAPH: Final = "understudy.graph"
NODE: Final = "understudy.node"
PATH: Final = "understudy.path"
ATTEMPT: Final = "understudy.attempt"
WAITED_S: Final = "understudy.mailbox.wait_s"
COST_USD: Final = "understudy.cost_usd"
REQUESTS: Final = "understudy.requests"
STATUS: Final = "understudy.status"

# OpenInference: what Phoenix and Langfuse read.
OI_KIND: Final = "openinference.span.kind"
OI_INPUT: Final = "input.value"
OI_INPUT_TYPE: Final = "input.mime_type"
OI_OUTPUT: Final = "output.value"
OI_OUTPUT_TYPE: Final = "output.mime_type"
OI_SESSION: Final = "session.id"
OI_USER: Final = "user.id"
OI_TOOL: Final = "tool.name"
OI_MODEL: Final = "llm.model_name"
OI_PROVIDER: Final = "llm.provider"
OI_PROMPT_TOKENS: Final = "llm.token_count.prompt"
OI_COMPLETION_TOKENS: Final = "llm.token_count.completion"
OI_TOTAL_TOKENS: Final = "llm.token_count.total"
OI_CACHED_TOKENS: Final = "llm.token_count.prompt_details.cache_read"
OI_INPUT_MESSAGES: Final = "llm.input_messages"
"""Begins the names of one message's parts: ``llm.input_messages.0.message.role``."""
OI_OUTPUT_MESSAGES: Final = "llm.output_messages"
OI_ROLE: Final = "message.role"
OI_CONTENT: Final = "message.content"

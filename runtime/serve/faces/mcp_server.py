"""The SDK's low-level server with graphs as its tools, over streamable HTTP and over stdio. It alone imports ``mcp`` here.

A question that a run asks a person goes to the client's user: as a request on the call's own stream where the protocol has
sessions, else as the call's result, which the client sends back with the answer. What it sends back tells which run is meant, so
it is sealed: it is bound to the caller, to the tool and its arguments, and to a time.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from importlib import metadata
from typing import Any, Final, cast, final

import attrs
import mcp_types as types
import trio
from mcp import MCPError
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from runtime.graphs.records.questions import Question
from runtime.graphs.records.run_events import NodeFinished, NodeReported, QuestionAsked
from runtime.messages.problems import MessageInvalid
from runtime.serve.auth import EVERYBODY, Caller
from runtime.serve.faces.following import Following, cancelling, output_of, words_of
from runtime.serve.faces.forms import form_of
from runtime.serve.faces.mcp_tools import GraphTool, told, tools_of
from runtime.serve.live import Live, Order
from runtime.serve.problem_documents import HttpProblem, invalid_input
from runtime.serve.question_routes import give_answer, open_questions, question_words
from runtime.traces.kept_run import RunRecord

CALLER: Final = "understudy.caller"
"""Where the one who calls stands in the scope of a request."""
YEAR_S: Final = 31_536_000.0
SETTLE_S: Final = 1.0
"""How long the library has to notice that a client has left, in seconds."""
MOST_TRIES: Final = 5
"""How often a person is asked the same again, because the answer did not fit."""
_Context = ServerRequestContext[Any, Any]
_Result = types.CallToolResult | types.InputRequiredResult


def caller_of(context: _Context) -> Caller:
    """Who calls: over stdio, anyone who has started this process."""
    request = context.request
    found: Caller = EVERYBODY if request is None else request.scope[CALLER]
    return found


@final
class GraphServer:
    """Graphs as the tools of an MCP server, for one service that is up."""

    def __init__(self, live: Live, keys: Sequence[bytes] = (), *, is_alone: bool = False) -> None:
        """`keys` seal what clients send back. `is_alone`: no one but the client's user can answer questions."""
        self._live = live
        self._tools = tools_of(live.graphs.values())
        self._is_alone = is_alone
        self._server: Server[Any] = Server(
            "understudy",
            version=metadata.version("understudy"),
            on_list_tools=self._list,
            on_call_tool=self._call,
        )
        sealing = RequestStateSecurity(
            keys=list(keys) or [secrets.token_bytes(32)],
            ttl=min(live.limits.run_s, YEAR_S),  # the library takes no infinity
            bind_principal=lambda context: caller_of(context).name,
        )
        self._server.middleware.append(RequestStateBoundary(sealing, default_audience="understudy"))

    # --- transports -------------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def over_http(self, session_idle_s: float) -> AsyncGenerator[Transport]:
        """Answer requests over streamable HTTP while the block lasts."""
        live = self._live
        manager = StreamableHTTPSessionManager(
            self._server,
            security_settings=_security(live),
            session_idle_timeout=session_idle_s,
            max_request_body_size=live.limits.body_bytes,
        )
        async with manager.run():
            yield Transport(manager, live)

    async def over_stdio(self, stdin: Any = None) -> None:
        """Answer what comes on standard input until it ends."""
        async with stdio_server(stdin) as (incoming, outgoing):
            await self._server.run(incoming, outgoing, self._server.create_initialization_options())

    # --- tools ------------------------------------------------------------------------------------------------------------

    async def _list(self, _: _Context, __: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(
            tools=[
                types.Tool(
                    name=tool.name,
                    description=tool.description,
                    input_schema=dict(tool.input_schema),
                    output_schema=None if tool.output_schema is None else dict(tool.output_schema),
                )
                for tool in self._tools.values()
            ]
        )

    async def _call(self, context: _Context, params: types.CallToolRequestParams) -> _Result:
        tool = self._tools.get(params.name)
        if tool is None:
            raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {params.name[:100]}")
        call = _Call(self._live, context, caller_of(context), self._is_alone)
        try:
            if params.request_state is None:
                return await call.begin(tool, params.arguments or {})
            answers = cast("Mapping[str, Any]", params.input_responses or {})
            return await call.go_on(str(json.loads(params.request_state)["run"]), answers)
        except HttpProblem as problem:
            return _failed(words_of(problem))


@final
class Transport:
    """The SDK's streamable HTTP as an ASGI application, for callers who are known already."""

    def __init__(self, manager: StreamableHTTPSessionManager, live: Live) -> None:
        self._manager = manager
        self._live = live

    async def serve(self, caller: Caller, scope: Any, receive: Any, send: Any) -> None:
        """One request. A stream that waits for news without a call ends when the service does."""
        token = AccessToken(token="", client_id=caller.name, scopes=sorted(caller.scopes))
        scope = {**scope, CALLER: caller, "user": AuthenticatedUser(token)}  # sessions belong to anyone who has begun them
        drains = self._live.drains if scope["method"] == "GET" else None
        await _settled(partial(self._manager.handle_request, scope, receive, send), drains)


async def _settled(handle: Callable[[], Awaitable[None]], drains: trio.Event | None) -> None:
    """Handle a request; when that is cancelled or `drains` is set, let the library end on its own first, for a moment.

    A client may leave as soon as it has read the answer that it waits for, before the end of the response. That is a cancellation
    here, and the library takes back a session whose first request is cancelled.
    """
    ended = trio.Event()
    async with trio.open_nursery() as nursery:
        with trio.CancelScope(shield=True) as handling:

            async def watch() -> None:
                try:
                    await (trio.Event() if drains is None else drains).wait()
                except trio.Cancelled:
                    with trio.move_on_after(SETTLE_S, shield=True):
                        await ended.wait()
                    raise
                finally:
                    handling.cancel()

            nursery.start_soon(watch)
            try:
                await handle()
            finally:
                ended.set()
        nursery.cancel_scope.cancel()


@final
@attrs.frozen
class _Call:
    """One call of a tool."""

    live: Live
    context: _Context
    caller: Caller
    is_alone: bool

    async def begin(self, tool: GraphTool, arguments: Mapping[str, Any]) -> _Result:
        """Start a run and follow it."""
        try:
            message = tool.message(arguments, self.live.limits.json_depth)
        except MessageInvalid as error:
            raise invalid_input(error) from error
        launch, _ = self.live.accept(Order(tool.graph, message), self.caller)
        with cancelling(self.live, launch.record):
            await self.live.begun(launch)
            return await self._follow(launch.record, Following(self.live, launch.record))

    async def go_on(self, run_id: str, answers: Mapping[str, Any]) -> _Result:
        """Give a run the answers that it waits for, and follow it."""
        record = await self.live.find(run_id, self.caller, operating=True)
        with cancelling(self.live, record):
            following = Following(self.live, record, record.next_seq - 1)
            wrong: dict[str, str] = {}
            for question in await open_questions(self.live, record):
                answer = answers.get(question.id)
                if not isinstance(answer, types.ElicitResult):
                    continue
                if answer.action != "accept":
                    return await self._declined(record, question)
                problem = await self._give(record, question, answer)
                if problem is not None:
                    wrong[question.id] = words_of(problem)
            return await self._follow(record, following, wrong)

    async def _follow(self, record: RunRecord, following: Following, wrong: Mapping[str, str] | None = None) -> _Result:
        """Report what happens in the run until it is over, or asks something that the client has to send back."""
        done, is_asking = 0, wrong is not None
        while True:
            if is_asking and (found := await open_questions(self.live, record)):
                result = await self._ask(record, found, wrong or {})
                if result is not None:
                    return result
            entries = await following.more()
            if entries is None:
                break
            for entry in entries:
                if isinstance(entry.event, NodeFinished | NodeReported):
                    done += 1
                    words = entry.event.text if isinstance(entry.event, NodeReported) else f"{entry.event.node} finished"
                    await self.context.session.report_progress(done, None, words)
            is_asking = any(isinstance(entry.event, QuestionAsked) for entry in entries)
        text, structured = told(output_of(self.live, record, self.caller))
        return types.CallToolResult(content=[types.TextContent(text=text)], structured_content=structured)

    # --- questions to people ----------------------------------------------------------------------------------------------

    async def _ask(self, record: RunRecord, questions: Sequence[Question], wrong: Mapping[str, str]) -> _Result | None:
        """Ask the client's user; a result if the call ends with it, None if the run goes on."""
        session = self.context.session
        capabilities = session.client_capabilities
        if capabilities is None or capabilities.elicitation is None:
            if not self.is_alone:
                return None  # somebody may answer over HTTP, or in the inspector
            await self.live.cancel(record)
            return _failed(f"A person is asked: {self._text(record, questions[0], '')} This client cannot ask people.")
        if self.context.protocol_version in MODERN_PROTOCOL_VERSIONS:
            forms: dict[str, Any] = {
                question.id: types.ElicitRequest(params=self._form(record, question, wrong.get(question.id, "")))
                for question in questions
            }
            return types.InputRequiredResult(input_requests=forms, request_state=json.dumps({"run": record.id}))
        for question in questions:
            result = await self._elicit(record, question)
            if result is not None:
                return result
        return None

    async def _elicit(self, record: RunRecord, question: Question) -> _Result | None:
        """Ask on the call's own stream, until the answer fits or has come from somebody else."""
        problem: HttpProblem | None = None
        for _ in range(MOST_TRIES):
            form = self._form(record, question, "" if problem is None else words_of(problem))
            answer = await self._answer(record, question, form)
            if answer is None:
                return None
            if answer.action != "accept":
                return await self._declined(record, question)
            problem = await self._give(record, question, answer)
            if problem is None:
                return None
        await self.live.cancel(record)
        return _failed("The answers of the person that was asked did not fit, so the run was cancelled.")

    async def _answer(
        self, record: RunRecord, question: Question, form: types.ElicitRequestFormParams
    ) -> types.ElicitResult | None:
        """What the client's user says; None when the question isn't open any more."""
        answer: types.ElicitResult | None = None
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                while any(each.id == question.id for each in await open_questions(self.live, record)):
                    await record.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            try:
                answer = await self.context.session.elicit_form(form.message, form.requested_schema, self.context.request_id)
            except MCPError:  # it says that it can ask, and does not
                answer = types.ElicitResult(action="cancel")
            nursery.cancel_scope.cancel()
        return answer

    async def _give(self, record: RunRecord, question: Question, answer: types.ElicitResult) -> HttpProblem | None:
        """Answer the question; why the answer does not fit, if it does not."""
        try:
            value = form_of(question.schema).read(answer.content or {})
            await give_answer(self.live, record, question.id, value, self.caller.name)
        except MessageInvalid as error:
            return invalid_input(error)
        except HttpProblem as problem:
            return problem if problem.kind == "input-invalid" else None  # somebody else was quicker
        return None

    async def _declined(self, record: RunRecord, question: Question) -> types.CallToolResult:
        await self.live.cancel(record)
        return _failed(f"The person that was asked ({question.node}) did not answer, so the run was cancelled.")

    def _form(self, record: RunRecord, question: Question, wrong: str) -> types.ElicitRequestFormParams:
        schema = dict(form_of(question.schema).schema)
        return types.ElicitRequestFormParams(message=self._text(record, question, wrong), requested_schema=schema)

    def _text(self, record: RunRecord, question: Question, wrong: str) -> str:
        said = f"The last answer did not fit: {wrong}\n\n" if wrong else ""
        return said + question_words(self.live, question, record, self.caller)


def _failed(text: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=text)], is_error=True)


def _security(live: Live) -> TransportSecuritySettings:
    """The SDK's own check of hosts and origins, as far as it can say what the service's says, which comes first."""
    hosts = [host for host in live.hosts if "*" not in host]
    names = [each for host in hosts for each in (host, f"{host}:*")]
    origins = [f"{scheme}://{name}" for scheme in ("http", "https") for name in names]
    return TransportSecuritySettings(
        enable_dns_rebinding_protection=len(hosts) == len(live.hosts),
        allowed_hosts=names,
        allowed_origins=[*origins, *live.origins],
    )

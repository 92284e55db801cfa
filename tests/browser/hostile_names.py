"""A service whose names are hostile to a page that shows them: ``python -m tests.browser.hostile_names PORT``.

Names of graphs, nodes, actors and labels may hold anything that can be printed but a slash. Tools are those of a server that
this program is, too (``python -m tests.browser.hostile_names tools``): what it says of them is not its users' to choose.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import attrs
import trio

from actors import Actor, Graph, Redelivery, RunFailed
from runtime.serve import Service, serve
from runtime.testing import ScriptedLM, tool_answer
from runtime.tools import mcp

GRAPH = "<img src=x onerror=alert(1)>"
NODE = "<svg onload=alert(2)>"
AGENT = "\"'><b onclick=alert(3)>&lt;i&gt;${alert(4)}"
ACTOR = "<iframe srcdoc='&lt;script&gt;alert(5)&lt;script&gt;'>"
LABEL = "<script>alert(6)</script>"
TOOL = "<img src=x onerror=alert(7)>"
TOOL_HERE = "_img_src_x_onerror_alert_7__"
"""What that tool is called here: providers take letters, digits, `_` and `-` only."""
SAID = "<a href=javascript:alert(8)>the disk is full</a>"
RUN = "named"


@attrs.frozen
class Question:
    text: str


@attrs.frozen
class Asked:
    text: str


@attrs.frozen
class Answer:
    text: str


def make() -> Graph[Question, Answer]:
    graph = Graph(GRAPH, input=Question, output=Answer)

    @graph.node(name=NODE, redelivery=Redelivery(max_attempts=2))
    async def first(question: Question) -> Asked:
        """<script>alert(9)</script>"""
        return Asked(question.text)

    box = mcp("files", command=[sys.executable, "-m", "tests.browser.hostile_names", "tools"])

    @graph.predict(name=AGENT, tools=[box], on_tool_error="fail")
    async def agent(asked: Asked) -> Answer:
        """<script>alert(10)</script>"""
        raise NotImplementedError

    return graph


class Named(Actor[Any]):
    """Has a name, and fails."""

    async def receive(self, message: Any) -> None:
        raise RuntimeError(SAID)


async def main(port: int) -> None:
    graph = make()
    service = Service([graph], lm=ScriptedLM([tool_answer(TOOL_HERE), {"text": "never asked"}]))
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, service, "127.0.0.1", port)
        runtime = service.live.runtime
        (await runtime.spawn(Named, name=ACTOR)).tell_nowait(LABEL)
        handle = await runtime.start(graph, Question(SAID), RUN, labels={LABEL: LABEL})
        with contextlib.suppress(RunFailed):
            await handle.result()
        sys.stdout.write(f"up {handle.status}\n")
        sys.stdout.flush()
        await trio.sleep_forever()


async def serve_tools() -> None:
    import mcp_types as types
    from mcp.server.lowlevel import Server
    from mcp.server.stdio import stdio_server

    nothing: dict[str, Any] = {"type": "object", "properties": {}}

    async def list_tools(context: Any, params: Any) -> Any:
        return types.ListToolsResult(tools=[types.Tool(name=TOOL, description=LABEL, title=TOOL, input_schema=nothing)])

    async def call_tool(context: Any, params: Any) -> Any:
        return types.CallToolResult(content=[types.TextContent(type="text", text=f"{params.name}: {SAID}")], is_error=True)

    server: Any = Server(TOOL, on_list_tools=list_tools, on_call_tool=call_tool)
    async with stdio_server() as (reading, writing):
        await server.run(reading, writing, server.create_initialization_options())


if __name__ == "__main__":
    if sys.argv[1] == "tools":
        trio.run(serve_tools)
    else:
        trio.run(main, int(sys.argv[1]))

"""Tools: what language models may call in ``@graph.predict(tools=[…])`` and ``lm.chat(messages, tools=[…])``.

Begin at ``tool.py``; the tools of MCP servers are in ``mcp_client.py``.
"""

from actors.graphs.approval import Approved as Approved
from actors.graphs.approval import Arguments as Arguments
from actors.graphs.approval import Refused as Refused
from actors.graphs.effects import Effect as Effect
from actors.graphs.tool_lists import Tools as Tools
from actors.graphs.toolboxes import Toolbox as Toolbox
from actors.graphs.tools import Tool as Tool
from runtime.tools.mcp_client import mcp as mcp
from runtime.tools.tool import tool as tool

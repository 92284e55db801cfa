"""What this room uses of Starlette, by its own names: the one place that imports it."""

from __future__ import annotations

from starlette.applications import Starlette as Starlette
from starlette.datastructures import Headers as Headers
from starlette.exceptions import HTTPException as HTTPException
from starlette.middleware.cors import CORSMiddleware as CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware as TrustedHostMiddleware
from starlette.requests import Request as Request
from starlette.responses import Response as Response
from starlette.routing import Mount as Mount
from starlette.routing import compile_path as compile_path

"""The loopback provider under one roof, and its command: ``python -m runtime.testing.loopback --port 0``.

The parts, in ``runtime.testing.models``: ``answers`` (what a model answers), ``provider_script`` (what each model does),
``wire_forms`` (OpenAI's and Anthropic's forms), ``http_server`` (HTTP), ``planned_replies`` (how a reply goes out),
``recording`` (what was seen), ``provider`` (the server) and ``process`` (in its own process). ``runtime.testing`` imports
those and not this module, because Python warns when ``-m`` runs a module that its package has already imported.
"""

from __future__ import annotations

import sys

from runtime.testing.models.process import LoopbackHandle as LoopbackHandle
from runtime.testing.models.process import LoopbackSnapshot as LoopbackSnapshot
from runtime.testing.models.process import MonotonicClock as MonotonicClock
from runtime.testing.models.process import loopback_process as loopback_process
from runtime.testing.models.process import main as main
from runtime.testing.models.provider import LoopbackProvider as LoopbackProvider
from runtime.testing.models.provider import open_loopback as open_loopback
from runtime.testing.models.provider_script import Failure as Failure
from runtime.testing.models.provider_script import ModelScript as ModelScript
from runtime.testing.models.recording import RequestRecord as RequestRecord

if __name__ == "__main__":
    sys.exit(main())

"""Fakes and tools for people who test graphs: the loopback provider, the scripted language model, and their answers."""

from runtime.testing.answers import Answer as Answer
from runtime.testing.answers import ChatRequest as ChatRequest
from runtime.testing.answers import field_answer as field_answer
from runtime.testing.answers import json_answer as json_answer
from runtime.testing.answers import tool_answer as tool_answer
from runtime.testing.process import LoopbackHandle as LoopbackHandle
from runtime.testing.process import LoopbackSnapshot as LoopbackSnapshot
from runtime.testing.process import MonotonicClock as MonotonicClock
from runtime.testing.process import loopback_process as loopback_process
from runtime.testing.provider import LoopbackProvider as LoopbackProvider
from runtime.testing.provider import open_loopback as open_loopback
from runtime.testing.recording import RequestRecord as RequestRecord
from runtime.testing.script import Failure as Failure
from runtime.testing.script import ModelScript as ModelScript
from runtime.testing.scripted import ScriptedCall as ScriptedCall
from runtime.testing.scripted import ScriptedLM as ScriptedLM
from runtime.testing.scripted import UnscriptedCall as UnscriptedCall

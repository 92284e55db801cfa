"""Tools for people who test graphs: virtual time, explored schedules, fault plans, probes, and fakes for language models.

``runtime.testing.network`` is apart, because it needs httpx at once.
"""

from runtime.testing.answers import Answer as Answer
from runtime.testing.answers import ChatRequest as ChatRequest
from runtime.testing.answers import field_answer as field_answer
from runtime.testing.answers import json_answer as json_answer
from runtime.testing.answers import tool_answer as tool_answer
from runtime.testing.assertions import MessageLedger as MessageLedger
from runtime.testing.assertions import assert_conserved as assert_conserved
from runtime.testing.assertions import no_orphans as no_orphans
from runtime.testing.explore import explore as explore
from runtime.testing.explore import find_failure as find_failure
from runtime.testing.explore import replay as replay
from runtime.testing.failure import FoundFailure as FoundFailure
from runtime.testing.failure import Schedule as Schedule
from runtime.testing.faults import Fault as Fault
from runtime.testing.faults import FaultPlan as FaultPlan
from runtime.testing.faults import InjectedFault as InjectedFault
from runtime.testing.faults import cancel_at_every_checkpoint as cancel_at_every_checkpoint
from runtime.testing.matchers import by_fields as by_fields
from runtime.testing.matchers import by_node as by_node
from runtime.testing.matchers import by_signature as by_signature
from runtime.testing.patterns import Unordered as Unordered
from runtime.testing.probes import TestProbe as TestProbe
from runtime.testing.process import LoopbackHandle as LoopbackHandle
from runtime.testing.process import LoopbackSnapshot as LoopbackSnapshot
from runtime.testing.process import MonotonicClock as MonotonicClock
from runtime.testing.process import loopback_process as loopback_process
from runtime.testing.provider import LoopbackProvider as LoopbackProvider
from runtime.testing.provider import open_loopback as open_loopback
from runtime.testing.recording import RequestRecord as RequestRecord
from runtime.testing.schedule import check_trio as check_trio
from runtime.testing.script import Failure as Failure
from runtime.testing.script import ModelScript as ModelScript
from runtime.testing.scripted import ScriptedCall as ScriptedCall
from runtime.testing.scripted import ScriptedLM as ScriptedLM
from runtime.testing.scripted import ScriptedStream as ScriptedStream
from runtime.testing.scripted import UnscriptedCall as UnscriptedCall
from runtime.testing.scripts import ScriptMismatch as ScriptMismatch
from runtime.testing.search import Exploration as Exploration
from runtime.testing.simulation import Deadlock as Deadlock
from runtime.testing.simulation import Livelock as Livelock
from runtime.testing.simulation import Simulation as Simulation
from runtime.testing.simulation import Step as Step
from runtime.testing.stepping import Held as Held
from runtime.testing.stepping import Stepper as Stepper
from runtime.testing.strategies import STRATEGIES as STRATEGIES
from runtime.testing.strategies import Strategy as Strategy
from runtime.testing.strategies import pct as pct
from runtime.testing.strategies import portfolio as portfolio
from runtime.testing.taps import tap as tap
from runtime.testing.traces import EventLog as EventLog
from runtime.testing.traces import assert_golden as assert_golden
from runtime.testing.traces import event_line as event_line
from runtime.testing.virtual_time import thread_gate as thread_gate

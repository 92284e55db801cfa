"""Tools for people who test graphs: virtual time, explored schedules, fault plans, probes, and fakes for language models.

``runtime.testing.network`` is apart, because it needs httpx immediately.

Begin at ``plugin.py`` (fixtures and options) and ``schedules`` (explored tests); language models for tests are in ``models``,
recorded runs in ``cases``, tests of stores in ``stores``.
"""

from runtime.graphs.records.rehearsing import CaseDiverged as CaseDiverged
from runtime.testing.answering import answering as answering
from runtime.testing.assertions import MessageLedger as MessageLedger
from runtime.testing.assertions import assert_conserved as assert_conserved
from runtime.testing.assertions import no_orphans as no_orphans
from runtime.testing.cases.exploring import CaseRun as CaseRun
from runtime.testing.faults import Fault as Fault
from runtime.testing.faults import FaultPlan as FaultPlan
from runtime.testing.faults import InjectedFault as InjectedFault
from runtime.testing.faults import cancel_at_every_checkpoint as cancel_at_every_checkpoint
from runtime.testing.models.answers import Answer as Answer
from runtime.testing.models.answers import ChatRequest as ChatRequest
from runtime.testing.models.answers import field_answer as field_answer
from runtime.testing.models.answers import json_answer as json_answer
from runtime.testing.models.answers import tool_answer as tool_answer
from runtime.testing.models.checked_scripts import ScriptMismatch as ScriptMismatch
from runtime.testing.models.matchers import by_fields as by_fields
from runtime.testing.models.matchers import by_node as by_node
from runtime.testing.models.matchers import by_signature as by_signature
from runtime.testing.models.process import LoopbackHandle as LoopbackHandle
from runtime.testing.models.process import LoopbackSnapshot as LoopbackSnapshot
from runtime.testing.models.process import MonotonicClock as MonotonicClock
from runtime.testing.models.process import loopback_process as loopback_process
from runtime.testing.models.provider import LoopbackProvider as LoopbackProvider
from runtime.testing.models.provider import open_loopback as open_loopback
from runtime.testing.models.provider_script import Failure as Failure
from runtime.testing.models.provider_script import ModelScript as ModelScript
from runtime.testing.models.recording import RequestRecord as RequestRecord
from runtime.testing.models.scripted_lm import ScriptedCall as ScriptedCall
from runtime.testing.models.scripted_lm import ScriptedLM as ScriptedLM
from runtime.testing.models.scripted_lm import ScriptedStream as ScriptedStream
from runtime.testing.models.scripted_lm import UnscriptedCall as UnscriptedCall
from runtime.testing.patterns import Unordered as Unordered
from runtime.testing.probes import TestProbe as TestProbe
from runtime.testing.replays import replays as replays
from runtime.testing.schedules.deadlock_watch import run_in_virtual_time as run_in_virtual_time
from runtime.testing.schedules.explore import explore as explore
from runtime.testing.schedules.explore import find_failure as find_failure
from runtime.testing.schedules.explore import replay as replay
from runtime.testing.schedules.failure import FoundFailure as FoundFailure
from runtime.testing.schedules.failure import Schedule as Schedule
from runtime.testing.schedules.private import check_trio as check_trio
from runtime.testing.schedules.search import Exploration as Exploration
from runtime.testing.schedules.search import NotExplored as NotExplored
from runtime.testing.schedules.search import ScheduleDiverged as ScheduleDiverged
from runtime.testing.schedules.simulation import Deadlock as Deadlock
from runtime.testing.schedules.simulation import Livelock as Livelock
from runtime.testing.schedules.simulation import Simulation as Simulation
from runtime.testing.schedules.simulation import Step as Step
from runtime.testing.schedules.strategies import STRATEGIES as STRATEGIES
from runtime.testing.schedules.strategies import Strategy as Strategy
from runtime.testing.schedules.strategies import pct as pct
from runtime.testing.schedules.strategies import portfolio as portfolio
from runtime.testing.schedules.taps import tap as tap
from runtime.testing.schedules.virtual_time import thread_gate as thread_gate
from runtime.testing.stepping import Held as Held
from runtime.testing.stepping import Stepper as Stepper
from runtime.testing.stores.contract import StoreContract as StoreContract
from runtime.testing.stores.crashes import Crashes as Crashes
from runtime.testing.stores.crashes import crash_everywhere as crash_everywhere
from runtime.testing.stores.crashing_store import CrashingStore as CrashingStore
from runtime.testing.stores.crashing_store import Ending as Ending
from runtime.testing.stores.crashing_store import crash_after as crash_after
from runtime.testing.stores.troubled import FlakyStore as FlakyStore
from runtime.testing.stores.troubled import SlowStore as SlowStore
from runtime.testing.traces import EventLog as EventLog
from runtime.testing.traces import assert_golden as assert_golden
from runtime.testing.traces import event_line as event_line

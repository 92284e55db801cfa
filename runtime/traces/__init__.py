"""What a run did, out of its events as they are written: its steps, and where its time and its money went."""

from runtime.traces.blame import Blame as Blame
from runtime.traces.blame import Cause as Cause
from runtime.traces.blame import Share as Share
from runtime.traces.blame import blame_of as blame_of
from runtime.traces.reading import read_events as read_events
from runtime.traces.steps import Trace as Trace
from runtime.traces.steps import trace_of as trace_of

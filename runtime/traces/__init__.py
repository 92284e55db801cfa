"""What a run did, out of its events as they are written: the steps, a picture, the form that Chrome and Perfetto read."""

from runtime.traces.reading import read_events as read_events
from runtime.traces.steps import Trace as Trace
from runtime.traces.steps import trace_of as trace_of

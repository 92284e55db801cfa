"""What runs did: kept and written as it happens (``Recording``, ``EventFile``), read and explained (``Trace``, ``Blame``).

Begin at ``steps.py`` (a run from its events) and ``blame.py`` (where its time went); ``recorder.py`` keeps the events of a
runtime, ``event_json.py`` writes them.
"""

from runtime.traces.archive import Archive as Archive
from runtime.traces.blame import Blame as Blame
from runtime.traces.blame import Cause as Cause
from runtime.traces.blame import Share as Share
from runtime.traces.blame import blame_of as blame_of
from runtime.traces.event_file import EventFile as EventFile
from runtime.traces.event_json import Encoder as Encoder
from runtime.traces.event_reader import read_events as read_events
from runtime.traces.kept_run import RunRecord as RunRecord
from runtime.traces.recorder import Recorder as Recorder
from runtime.traces.recorder import Recording as Recording
from runtime.traces.recorder import RunRecords as RunRecords
from runtime.traces.steps import Trace as Trace
from runtime.traces.steps import trace_of as trace_of

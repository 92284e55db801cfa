"""What runs did, kept and written: ``Recording`` for services, ``EventFile`` for programs, and the encoder of events."""

from runtime.recording.archive import Archive as Archive
from runtime.recording.event_file import EventFile as EventFile
from runtime.recording.record import RunRecord as RunRecord
from runtime.recording.recorder import Recorder as Recorder
from runtime.recording.recorder import Recording as Recording
from runtime.recording.recorder import RunRecords as RunRecords
from runtime.recording.wire import Encoder as Encoder

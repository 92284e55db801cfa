"""Record calls of language models and replay them: the same bytes at the same times, without network or key."""

from runtime.record.cassettes import Cassettes, RecordingMissing
from runtime.record.recorded import RecordingUnreadable

__all__ = ["Cassettes", "RecordingMissing", "RecordingUnreadable"]

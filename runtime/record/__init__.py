"""Record calls of language models and replay them: the same bytes at the same times, without network or key."""

from runtime.record.cassettes import Cassettes, RecordingMissing
from runtime.record.recording import RecordingUnreadable

__all__ = ["Cassettes", "RecordingMissing", "RecordingUnreadable"]

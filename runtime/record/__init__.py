"""Record calls of language models and replay them: the same bytes at the same times, without network or key.

Begin at ``cassettes.py``; a file's form is in ``recorded.py``, what must not stand in one in ``redacting.py``.
"""

from runtime.record.cassettes import Cassettes, RecordingMissing
from runtime.record.recorded import RecordingUnreadable

__all__ = ["Cassettes", "RecordingMissing", "RecordingUnreadable"]

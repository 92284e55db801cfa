"""What a run leaves behind: its public record and events, its journal, questions and answers, and how they are read again.

Begin at ``run_record.py`` and ``run_events.py`` (what a run shows), then ``journaling.py`` (what is written, and when) and
``resuming.py`` (how a run goes on from it). ``recorded_answers.py`` and ``recorded_errors.py`` hold what was bought and what
failed; ``questions.py`` and ``stored_answers.py`` what people were asked; ``history.py`` and ``supposing.py`` read past runs.
"""

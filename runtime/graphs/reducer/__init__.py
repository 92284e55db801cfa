"""What a run decides: a pure reducer over values, without a clock, a task or a channel.

Begin at ``state.py``: what happened goes in, what is to be done comes out. ``joins.py`` tells which values a join can start
with, ``branches.py`` what a run remembers, ``routing.py`` where a message goes, ``wording.py`` the sentences of its errors.
"""

"""Actors at work: mailboxes, cells, supervisors, timers, events, dead letters.

Begin at ``lifecycle.py`` (the states, and what is no state), then ``cell.py`` and ``actor_cell.py`` (an incarnation, and its
loop), ``hand.py`` (what becomes of the current message), ``supervisor.py`` and ``restarts.py`` (what follows an end).
Messages come by ``refs.py`` and ``mailbox.py``; ``waits.py`` finds asks that could never end.
"""

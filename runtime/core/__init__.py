"""Actors at work: mailboxes, cells, supervisors, timers, events, dead letters."""

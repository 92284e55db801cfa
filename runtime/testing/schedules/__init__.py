"""Chosen schedules in virtual time: simulation, search, shrinking, replay.

Begin at ``explore.py``; ``simulation.py`` is one run under one schedule, ``search.py`` and ``shrink.py`` find a failing one and
make it simple, ``schedule.py`` is what decides in trio's place.
"""

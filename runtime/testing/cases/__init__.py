"""Recorded runs that are run again, with everything that came from outside out of the record.

Begin at ``rerun.py``; ``recorded_world.py`` is what stands in for the world outside.
"""

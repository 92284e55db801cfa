"""The sides of a runtime, of which ``runtime.app`` makes one object.

One file for each: actors, ``runs.py``, ``stored_runs.py``, ``cases.py`` and ``views.py``. A method checks what it is given, and
calls the room that does it. ``part.py`` is what they have in common.
"""

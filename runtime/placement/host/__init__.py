"""The side of a host: what runs in the processes of a place.

Begin at ``main.py`` (the process), then ``serving.py`` (what it is called for); ``guardian.py`` is the process above it.
"""

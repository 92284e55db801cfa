"""The runtime in programs that are not trio programs: ``asyncio`` (same thread), ``portal`` (threads), ``asgi`` (servers).

Begin at one of these three. ``crossing.py`` is the way of one call into trio and back; what the objects look like out there
is written by ``generate_faces.py``.
"""

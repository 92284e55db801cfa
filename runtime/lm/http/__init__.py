"""HTTP on trio: one client behind one limiter, its pool, and what its connections speak.

Begin at ``transport.py``; connections are in ``keepalive.py`` (the pool) and ``http1.py`` (one of them), streams of events in
``sse_reader.py`` and ``binary_frames.py``.
"""

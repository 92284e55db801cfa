"""Talks of several turns: each turn is a run, and what was said is kept between them.

Begin at ``conversations.py``; ``talks.py`` and ``open_talks.py`` hold what was said, ``compacting.py`` makes it shorter.
"""

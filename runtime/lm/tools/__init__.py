"""Tools as language models see them: schemas, reading of arguments, and the rounds of an agent.

Begin at ``rounds.py``. The calls themselves are made in ``runtime/graphs/nodes/tooling.py``.
"""

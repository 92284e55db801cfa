"""One message at one node: the attempt, what its function is given, and whom it asks.

Begin at ``delivery.py`` (an attempt from its start to its end), then ``injected.py`` (what the function is given) and
``node_calls.py`` (its calls of models). ``once.py`` and ``attempt_journal.py`` keep what may happen once only. People are
asked in ``asking.py`` and ``humans.py``; tools are called in ``tooling.py`` and ``calling.py``, after ``approvals.py``.
"""

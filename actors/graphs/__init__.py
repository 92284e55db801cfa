"""What an author declares graphs with: nodes, messages, edges, their check and their pictures.

Begin at ``graph.py``. A decorated function becomes a ``node.py`` by ``declaring.py``, ``signature.py`` and ``annotations.py``;
``edges.py`` and ``plan.py`` are what all nodes come to, ``check.py`` and ``timing.py`` what is wrong with it, and
``mermaid.py`` and ``describe.py`` what it looks like.
"""

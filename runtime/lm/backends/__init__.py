"""Language models for systems whose nodes are types.

Begin at ``typed.py``; ``pydantic_ai.py`` and ``claude_cli.py`` are two that somebody else's library or command stands behind.
"""

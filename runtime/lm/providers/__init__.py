"""Providers of language models: where each lives, what it is sent, and what its replies mean, by LiteLLM's parts.

Begin at ``model_routes.py`` (where a model lives), ``translation.py`` (what it is sent; most calls by ``plain_calls.py``) and
``replies.py`` (what comes back; most by ``plain.py``). Streams are ``streaming.py`` and ``chunks.py``, errors ``error_table.py``.
"""

"""Other forms in which the graphs of a service are served.

OpenAI's in ``openai.py`` (``openai_chat.py``, ``openai_responses.py``), the Model Context Protocol in ``mcp.py``, AG-UI in
``agui.py``; ``following.py`` is what they have in common.
"""

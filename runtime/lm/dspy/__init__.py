"""DSPy on trio: its language model, its signatures and modules, and message types filled through them.

Begin at ``bridge.py`` (a signature or a module is run), and ``choosing.py`` (a model chooses among message types). DSPy calls
us through ``trio_lm.py``; answers that cannot be read are in ``unreadable.py`` and ``repair.py``.
"""

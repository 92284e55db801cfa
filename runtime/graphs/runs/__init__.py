"""A run at work: it performs what the reducer decides, with actors.

Begin at ``run.py``, which carries out what ``../reducer/state.py`` decides. ``launch.py`` and ``terms.py`` say how one
begins; ``run_life.py`` and ``ending.py`` how one ends; ``run_waits.py`` who waits for it; ``turns.py`` and ``node_places.py``
what runs share; ``dependencies.py`` what its nodes are given; ``pulse.py`` and ``slowness.py`` look at its time.
"""

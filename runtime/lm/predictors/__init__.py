"""Predictors of graphs: trained by DSPy's optimisers, kept as files, and served to the nodes.

Begin at ``compiling.py`` (``understudy compile``); ``optimising.py`` has the optimisers, ``files.py`` the files, and
``loaded_predictors.py`` what the nodes of a runtime get of them.
"""

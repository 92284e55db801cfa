"""Predictors of graphs: trained by DSPy's optimisers, kept as files, and served to the nodes."""

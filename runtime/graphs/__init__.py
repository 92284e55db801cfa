"""Runs of graphs: the pure reducer of one run, and the engine that performs what it decides with actors."""

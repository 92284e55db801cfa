"""Tests of stores and of what is built on them: a contract, stores that fail, crashes at chosen records.

Begin at ``contract.py`` for a store that you write, and at ``crashes.py`` for a program on one.
"""

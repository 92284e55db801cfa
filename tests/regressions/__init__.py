"""Faults that were found by trying the product, one file each (or a few small ones together).

The letter and number in a test's name are the name under which the fault was reported: `pytest -k test_a9_`.
"""

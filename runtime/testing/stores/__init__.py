"""Tests of stores and of what is built on them: a contract, stores that fail, crashes at chosen records."""

"""The same small works in this runtime, in trio with nothing on top, and in other libraries: ``python -m tests.benchmarks``."""

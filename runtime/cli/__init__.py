"""The command line: ``understudy``, with a module for each of its commands. Nothing imports this package."""

"""The command line: ``understudy demo`` and ``understudy run``. Nothing imports this package."""

"""The command line: ``understudy``, with a module for each of its commands. Nothing imports this package.

Begin at ``main.py``. Options are declared in the files whose names end in ``_commands.py``; a command is carried out in the
file that is named as it is typed, such as ``run.py``.
"""

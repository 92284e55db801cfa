"""What the inspector shows of a runtime, as JSON, and the page that shows it. ``Service(inspector=True)`` serves both.

Begin at ``api.py`` (the views); figures are kept by ``tally.py``, the page is in ``page.py`` and ``static``.
"""

from runtime.inspector.watch import Watch as Watch

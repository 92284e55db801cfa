"""What the inspector shows of a runtime, as JSON, and the page that shows it. ``Service(inspector=True)`` serves both."""

from runtime.inspector.watch import Watch as Watch

"""The runtime in programs that are not trio programs: ``asyncio`` (same thread), ``portal`` (threads), ``asgi`` (servers)."""

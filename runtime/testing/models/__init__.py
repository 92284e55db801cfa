"""Stand-ins for language models: scripted ones, and a provider on loopback."""

"""Stand-ins for language models: scripted ones, and a provider on loopback.

``scripted_lm.py`` is the language model without HTTP. ``provider.py`` is the provider with real sockets, which does what
``provider_script.py`` tells; ``answers.py`` serves both.
"""

"""Providers of language models: where each lives, what it is sent, and what its replies mean, by LiteLLM's parts."""

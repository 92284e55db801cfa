"""Clients of language models, one file each: each exports ``PEER``."""

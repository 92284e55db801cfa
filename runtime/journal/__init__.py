"""Journals: what a run was told and what it bought, kept so that the run survives its process."""

"""Chosen schedules in virtual time: simulation, search, shrinking, replay."""

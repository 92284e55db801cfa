"""Recorded runs that are run again, with everything that came from outside out of the record."""

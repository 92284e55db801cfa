"""One file per library that is measured."""

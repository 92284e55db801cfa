"""JSON of declared types: their fields, their schemas, strict reading.

Begin at ``reader.py`` (strict reading) and ``writer.py``; ``schemas.py`` has JSON schemas and lenient reading, ``codec.py``
and ``tagged.py`` what is stored, ``fields.py`` and ``kinds.py`` what a declared type consists of.
"""

"""JSON of declared types: their fields, their schemas, strict reading."""

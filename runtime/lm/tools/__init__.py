"""Tools as language models see them: schemas, reading of arguments, and the rounds of an agent."""

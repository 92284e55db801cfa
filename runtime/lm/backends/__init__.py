"""Language models for systems whose nodes are types."""

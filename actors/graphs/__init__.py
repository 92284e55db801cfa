"""What an author declares graphs with: nodes, messages, edges, their check and their pictures."""

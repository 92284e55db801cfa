"""The sides of the behaviour duel."""

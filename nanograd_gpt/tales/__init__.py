"""Tales: a text whose truth can be checked, for a first model to learn."""

"""One HTML page to explore what a model computes for a prompt."""

"""A table's grid as tasks: their words, the work on a node, what arrives, and the loop that waits for it."""

"""The regression gate: a recipe of runs, its cells, and whether any changed by more than its noise."""

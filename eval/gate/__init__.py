"""The regression gate: a recipe of runs, its cells, and whether any moved by more than its noise."""

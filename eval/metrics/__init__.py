"""The metrics, one per file: specification and measurement. `compute/` holds what several metrics use."""

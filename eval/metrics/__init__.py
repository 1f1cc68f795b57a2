"""One file per metric: its specification and how it is measured. `compute/` holds what metrics share."""

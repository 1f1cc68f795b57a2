"""The embedded benchmark: procedural animated toys with exact ground truth."""

"""The built-in benchmark: procedural animated toys with exact ground truth."""

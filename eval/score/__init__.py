"""Scoring: pairs predictions with references, divides the work into units, and measures them."""

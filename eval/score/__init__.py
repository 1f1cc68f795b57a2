"""Scoring: predictions are paired with references, cut into units, and measured."""

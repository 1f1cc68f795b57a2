"""Metrics in three pure layers (features, statistics, value), unreduced first."""

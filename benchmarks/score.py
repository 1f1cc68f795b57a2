"""Speed of scoring (filled by the metric room)."""

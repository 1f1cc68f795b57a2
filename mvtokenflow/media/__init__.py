"""Pictures, masks and videos, read strictly and written atomically."""

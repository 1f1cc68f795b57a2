"""The rows of tables: methods run here, imported renderings, and published numbers."""

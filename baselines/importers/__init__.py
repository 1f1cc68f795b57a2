"""Importers: what other programs leave behind, as pictures of the views that a dataset judges."""

"""Foundations independent of the method: errors, files, names, settings, progress, the terminal."""

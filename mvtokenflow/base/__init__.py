"""Foundations without any knowledge of the method: errors, files, names, settings, progress, the terminal."""

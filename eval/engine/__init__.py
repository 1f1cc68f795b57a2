"""Engines that spread units of work over processes."""

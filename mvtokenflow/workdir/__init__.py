"""The folder of a run: its lock, identity, checkpoints, costs, stage cache and provenance."""

"""The folder a run works in: its lock, owner, checkpoints, costs, shared stages and provenance."""

"""Engines that spread work over processes: of this machine, of a SLURM cluster, of a Ray cluster."""

"""Records of runs: rows, manifests, summaries and means."""

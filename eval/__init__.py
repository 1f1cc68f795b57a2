"""The harness: metrics, protocols, weights, runs and their records, tables, gates, and `mvtf-eval`."""

"""The small networks trained and judged on toy4d: data, sittings, gate."""

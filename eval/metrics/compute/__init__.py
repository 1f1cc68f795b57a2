"""What metrics compute with: networks, compiled loops, flow, silhouettes, backgrounds."""

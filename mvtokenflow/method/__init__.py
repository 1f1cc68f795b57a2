"""MVTokenFlow from a clip to a dynamic Gaussian field."""

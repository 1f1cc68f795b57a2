"""The method MVTokenFlow: a clip becomes a dynamic Gaussian field."""

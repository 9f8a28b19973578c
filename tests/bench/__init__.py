"""Benchmarks: what the operator costs, on the lab's real API server and Prometheus."""

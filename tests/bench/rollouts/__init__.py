"""How often a good version is rolled back, on real requests: `make bench-rollouts`."""

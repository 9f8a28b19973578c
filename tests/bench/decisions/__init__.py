"""How often, and how soon, rollout rules roll back: `make bench-decisions`."""

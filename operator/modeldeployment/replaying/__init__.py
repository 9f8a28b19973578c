"""Decisions taken again: from a recording, from Prometheus' history, or by another policy on the same counts."""

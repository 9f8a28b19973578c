"""Keeps the README's outputs true: does what it shows, on the lab, and writes the real outputs into it."""

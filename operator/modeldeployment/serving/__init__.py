"""What runs a model: children rendered from a revision, and pods read back. Pure."""

"""Routers: what carries requests to the revisions, and what it was seen to do. Pure."""

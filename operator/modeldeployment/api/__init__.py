"""The resources, written once: the source of the CRDs, the documentation and the editor schema."""

"""What `lab.runtime` starts: servers of one small model, each run by its own environment, which a lock pins."""

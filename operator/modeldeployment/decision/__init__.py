"""Pure: evidence in, verdict out. No I/O, no clock, nothing global that changes."""

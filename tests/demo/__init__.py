"""The demo: what the operator is for, played on real parts and checked by independent witnesses."""

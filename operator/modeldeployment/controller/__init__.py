"""The thin shell: watches, the fleet's loop, writes, Events, leadership. Decisions are made elsewhere."""

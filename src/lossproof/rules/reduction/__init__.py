"""Rules about how a loss is reduced, masked, broadcast, and kept in the graph."""

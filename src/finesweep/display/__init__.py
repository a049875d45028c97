"""Shows how far a sweep is, live or from its folder."""

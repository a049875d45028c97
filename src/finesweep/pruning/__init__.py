"""Decides by rules alone when trials are evaluated, which of them go on, and which end."""

"""Reads and writes files safely: regular ones only, of bounded size, replaced as a whole."""

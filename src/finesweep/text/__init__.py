"""Formats values and tables for people."""

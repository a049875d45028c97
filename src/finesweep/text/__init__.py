"""Formats values and tables for people.

Tables are laid out here, not by `rich.table`: on a narrow terminal it squeezes all columns, and here the least
important ones go.
"""

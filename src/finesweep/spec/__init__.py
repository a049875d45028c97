"""Turns a search space YAML into checked, frozen values, and derives the settings of each trial from them."""

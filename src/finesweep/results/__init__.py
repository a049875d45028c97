"""Ranks trials and writes what a sweep found: leaderboard, winner, model card."""

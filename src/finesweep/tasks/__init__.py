"""Says what is learned: which labels a task takes, how predictions are scored, what a naive answer scores."""

"""What the records show: results, statistics, learning curves, comparisons, observations."""

"""Models that speak while they write."""

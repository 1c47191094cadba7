"""Leaderboards: stored records and rankings, and one CSV per protocol that follows from them byte for byte."""

"""Frozen values that every part speaks of."""

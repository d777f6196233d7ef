"""Splitting rows into training, validation and test, and balancing of labels."""

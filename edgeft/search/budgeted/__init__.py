"""The best small model of a teacher inside a budget."""

"""Which rows train, validate and test, and what evens out rare labels."""

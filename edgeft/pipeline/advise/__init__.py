"""What to start with: sizes, method and lengths, with the arithmetic behind it."""

"""Rows checked and cleaned: duplicates, near duplicates, and what makes a file unusable."""

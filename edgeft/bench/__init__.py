"""Measuring an artifact, and the report."""

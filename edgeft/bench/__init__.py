"""Measuring an artifact on the machine that runs it, and the report."""

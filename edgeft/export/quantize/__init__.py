"""Precisions: how a graph becomes each of them, and which one ships."""

"""Fewer tokens, layers, features, heads and channels, then recovery under the teacher."""

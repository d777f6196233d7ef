"""Training that sees the int8 arithmetic of the exported graph."""

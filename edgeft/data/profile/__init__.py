"""What a user should know of the rows before training: the profile, its page and its table."""

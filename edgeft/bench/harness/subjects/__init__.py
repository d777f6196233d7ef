"""What is measured, each in a process of its own, on this machine or over ssh."""

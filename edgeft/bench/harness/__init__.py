"""The harness, after the MLPerf inference rules: each subject in a process of its own, asked in turns."""

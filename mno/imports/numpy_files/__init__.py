"""NumPy's files and zip archives, read without trust."""

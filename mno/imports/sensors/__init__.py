"""Tables of sensor readings, and their windows of frames."""

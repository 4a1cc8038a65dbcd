"""Files that others have made become datasets; what was made here goes to other programs."""

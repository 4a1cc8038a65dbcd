"""Speed and memory of this project's parts against named peers, on the machine at hand."""

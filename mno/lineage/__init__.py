"""Where a model comes from: the snapshot of what ran, and the record that names it."""

"""Questions people ask of all registered versions at once: from what, what changed, since when."""

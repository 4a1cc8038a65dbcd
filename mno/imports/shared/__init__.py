"""What several importers share: arrays that must be understood by their names and shapes."""

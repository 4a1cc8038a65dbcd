"""A chamber of solids around stirred gas, in three dimensions: plants, cells, exchange, march."""

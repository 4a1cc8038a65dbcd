"""The replay of a model: made again from its record, and compared with what was recorded."""

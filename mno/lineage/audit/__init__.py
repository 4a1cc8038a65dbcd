"""The audit of a model: every link of its lineage, held against its content."""

"""Studies: the same question asked of many trained models, answered from committed cells."""

"""How a study is run: copies of the workspace, cells in them, and the report on all."""

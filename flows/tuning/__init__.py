"""How a search is run: processes that train, and what asks and tells them."""

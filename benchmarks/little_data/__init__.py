"""What brings accuracy where solves are few: studies of docs/little-data.md.

One module for each question, `another_plant`; `cells` keeps what was trained, `page` makes the
tables.
"""

"""Studies and searches: many trained models, what they answer, and which parameters are best.

A study: `design` says its cells, `operators` their widths, `results` what is kept of them and which
comes next; `statistics` and `findings` say what they show, `report` writes it, `answers` fills
pages of one's own. A search: `search_space` says what is tried, `trials` makes and keeps them,
`search_report` writes what was found.
"""

"""The report and the page of an inspection: each one HTML file that is complete in itself.

Each section of the report is a module under `sections` with its template beside it; what is said is
in one file for each language, `en.toml` and `ja.toml`.
"""

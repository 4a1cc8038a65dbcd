"""The report: one HTML file that is complete in itself, for whoever decides about a model.

Each section is a package under `sections`: what it tells, its template, and its words in each
language.
"""

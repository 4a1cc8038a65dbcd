"""Whether a surrogate is worth it: indicators against their targets, break-even, verdict.

What is decided is data: codes and values. The words are the report's, in its languages.
"""

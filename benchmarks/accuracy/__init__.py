"""The accuracy study: operators and training options on public data and on a problem in time.

One module for each thing: `public_darcy` and `in_time` make the samples, `recipes` says how models
are trained, `cells` trains and measures, `page` makes the tables of docs/accuracy.md.
"""

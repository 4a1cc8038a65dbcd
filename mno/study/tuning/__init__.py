"""Searches: the parameters of model and training that do best on the validation split.

The test split is never opened: `mno.study.tuning.training` is the only way to the data here.
"""

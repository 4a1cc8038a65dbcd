"""What is evaluated is what the tests of the evaluation evaluate."""

from tests.evaluation.conftest import evaluation, figures, history, make_split, results, schema

__all__ = ["evaluation", "figures", "history", "make_split", "results", "schema"]

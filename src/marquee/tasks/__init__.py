"""A question asked of data: loss, evaluation, metrics, predictor, and the words for all of that."""

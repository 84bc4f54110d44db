"""One HTML page of what a model reached: `python -m eval.report`."""

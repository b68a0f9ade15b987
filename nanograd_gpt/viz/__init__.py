"""Pictures: a run's figures and report, and the graph behind a Tensor."""

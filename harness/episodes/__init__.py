"""Episodes: planned as indices, gathered as tensors, shown as a timeline, exported."""

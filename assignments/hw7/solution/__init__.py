"""Homework 7: one module a chapter. models (task 1 and 5), losses (2), pruning (3), quantization (4)."""

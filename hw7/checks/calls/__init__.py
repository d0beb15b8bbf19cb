"""The side that runs a submission: each call runs one of its functions on inputs and answers with tensors.

contract                                   finding a function, and refusing what it must not return
models, losses, pruning, quantization,     the calls of each chapter
final
run                                        one call, whatever the submission does
"""

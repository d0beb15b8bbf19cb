"""The side that runs a submission: each call runs one of its functions on inputs and answers with tensors.

models, losses, pruning,     the calls of each chapter: a generator function each, and nothing else to register
quantization, final
contract                     finding a function of the submission, and refusing what it must not return
recorder, operations         which layers a network runs
use                          what is done next with a network that came back
run                          one call, whatever the submission does
"""

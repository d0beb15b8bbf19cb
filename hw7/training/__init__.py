"""The one training loop, and its parts.

loop          phases, checkpoints, the history: `train`
epoch         a pass over the data, and scores
steps         what is done on one batch: on labels alone, or by distillation
precision     networks that compute in bfloat16
timing        what a run costs on this machine
cuda_graph    a GPU's work, recorded once and replayed
weights       weights files, and the networks they go into
"""

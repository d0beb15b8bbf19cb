"""The one training loop, and its parts.

loop          phases, checkpoints, the history: `train`, for one network or several on the same batches
identity      what a folder's run depends on, and how another differs
epoch         a pass over the data, and scores
steps         what is done on one batch: on labels alone, or by distillation
frozen        teachers with less work in them
precision     networks that compute in bfloat16, or in all of float32
timing        what a run costs on this machine
cuda_graph    a GPU's work, recorded once and replayed
weights       weights files, and the networks they go into
"""

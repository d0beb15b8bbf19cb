"""Data: pictures of any source as one uint8 tensor [N, 3, S, S], and their augmentation.

load                     one split of any source: decoded or drawn once, cached, handed out as a Split
source                   what all sources share: the plan of a split, and what is wrong with a file
food11, fashion_mnist    the real ones
plates                   the drawn one
augment                  a batch of pictures, each warped and coloured in its own way
"""

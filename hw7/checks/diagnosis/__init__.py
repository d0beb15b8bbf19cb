"""What a wrong function does, found out from its answers, where no known mistake gives them.

    frame         what a finder gets and gives
    losses        the formula of a loss, and of a step
    models        the layers that a network is made of, in the order in which it calls them
    pruning       which channels were taken, of which ranking; which tensors were left as they were
    quantization  which step and zero point were used, what was rounded, which entries of a file are another
    final         why the network that is handed in is no better than guessing
    diagnose      all of them

A finder looks at all answers to the questions of its kind, right ones too. It compares them with a case's `evidence`,
which whoever makes the cases has worked out, and speaks only where one explanation, and no other, gives every answer:
a mistake that is named and is not the mistake is worse than none. It is asked only where something is wrong.
"""

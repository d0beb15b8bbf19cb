"""What a right answer is: the same checks for students at home (public inputs) and for the grader (hidden inputs).

    cases      what is asked and what came back: Case, Call, Answer, Verdict, Outcome; nothing but data
    programs   the side that runs a submission's functions on inputs and answers with tensors; knows no answer
    judges     the side that compares what came back with what is expected; runs no submission
    parts      from outcomes to a part of the rubric: all of its cases, sizes, hits among images
    storage    cases as a file
    own_test   the test that students write, tried on wrong losses
    mistakes   the known mistakes and what is said about each (mistakes.toml)

Expected values come from outside: the grader computes them (autograder.oracles), the public tests carry them as data.
"""

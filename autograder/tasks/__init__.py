"""What is asked: a folder for each chapter, which holds all that is known of its tasks; nothing of it is released.

CHAPTER/__init__   its checks, and the parts that each tells apart
CHAPTER/oracle     the grader's own answers, right and with one thing wrong
CHAPTER/cases      the questions: for each check a generator of cases, made from a seed, with the answers expected
builder            what these generators share: random numbers, and mistakes that can be told apart
table              all checks by name
hidden             the hidden seed, which questions and images are made from

A new check is an entry in `CHECKS` and a generator of the same name; docs/instructors.md goes through a whole task.
"""

"""What is asked: a folder for each chapter, which holds all that is known of its tasks; nothing of it is released.

CHAPTER/__init__   its checks, and the parts that each tells apart
CHAPTER/oracle     the grader's own answers, right and with one thing wrong
CHAPTER/cases      the questions, made from a seed, with the answers expected
builder            what the makers of cases share
table              all checks by name
hidden             the seed, and the images that nobody has seen
"""

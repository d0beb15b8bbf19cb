"""The autograder: untrusted submissions in, grades out, and no score that was not earned.

    rubric, questions, oracles     what is asked for how many points, and the grader's own answers
    layouts, roster                whose submission is where
    entries, intake                its files, read with care
    jail                           the place where its code runs
    grading                        one submission to one grade
    running, journal               many of them, on any executor, losing nothing
    grades, exports                what a grade is, and what is made of it for students and teachers
    stripping, release             what students receive, generated from the reference solutions
    cli                            the `hw7-grade` command

Submitted code runs in the jail's processes only; nothing here imports it.
"""

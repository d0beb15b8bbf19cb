"""The autograder: untrusted submissions in, grades out, and no score that was not earned.

    intake             whose submission is where, and its files, read with care
    jail               the place where its code runs
    tasks              what is asked, and the grader's own answers, by chapter
    rubric             for how many points, in how much time
    grading            one submission to one grade
    grades, journal    what a grade is; where it is kept
    batch              many submissions, on any executor, losing nothing
    exports            what is made of grades for students and teachers
    course             what students receive, and the places where they hand in
    cli                the `hw7-grade` command

Submitted code runs in the jail's processes only; nothing here imports it.
"""

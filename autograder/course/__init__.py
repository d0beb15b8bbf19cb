"""A course's tools: what students receive, and the places where they hand in.

release, stripping, leaks, differences    the assignment, made from the reference solutions
nbgrader                                  a course folder; nbgrader_steps, nbgrader_execute run in it
gradescope_image                          the autograder that Gradescope runs
new_task                                  the stubs of a new task, in every file that it needs
files                                     those of a folder, those that `templates/` make
"""

REFERENCE, ASSIGNMENT = "reference_solutions/hw7", "assignments/hw7"  # in the project

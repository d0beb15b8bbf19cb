"""A course's tools: what students receive, and the places where they hand in.

release, stripping, leaks, differences    the assignment, made from the reference solutions
nbgrader                                  a course folder; nbgrader_steps, nbgrader_kernel run in it
gradescope_image                          the autograder that Gradescope runs
"""

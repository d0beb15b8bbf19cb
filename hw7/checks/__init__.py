"""What a right answer is: the same checks for students at home (public inputs) and for the grader (hidden inputs).

    cases              what is asked, what came back, what it earns: nothing but data; storage keeps it in a file
    calls              the side that runs a submission and answers with tensors; knows no answer
    tensors            tensors that both sides make
    held               networks and tensors as they are, whatever they say of themselves
    judges, compare    the side that compares what came back with what is expected; runs no submission
    there_and_back     the judges of chapter 4; chain is task 3.5 beside wrong earlier tasks, outcomes what judges share
    savable, renamed   words for what keeps a dict from being saved, and for names that came back as others
    mistakes           the known mistakes, and what is said of each
    diagnosis          what else a wrong function does, found out from its answers
    importable         why a module cannot be imported, found in its source
    scoring            from answers to the parts of a task; worth gives them points, again where a rubric has others
    final, handed_in   the network that is handed in: its answers to images; its sizes, and what both earn
    public             the public tests on a student's own machine; time_limit ends what does not end
    own_test           the test that students write, tried on wrong losses

Expected values come from outside: the grader computes them, the public tests carry them as data.
"""

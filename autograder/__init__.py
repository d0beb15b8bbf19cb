"""The autograder: to come. Its place, its command and who trusts whom in it are settled; nothing of it is built yet."""

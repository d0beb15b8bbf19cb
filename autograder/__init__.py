"""The autograder: to come. Its place, its commands and who trusts whom in it are settled; nothing of it is built yet."""

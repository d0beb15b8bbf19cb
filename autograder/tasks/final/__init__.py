"""The network that is handed in: tasks 5.1 and 5.2. There are no cases: sizes and accuracy are judged as they are."""

CHECKS = {
    "size": ("weights", "source"),
    "accuracy": ("simple", "medium", "strong"),
}

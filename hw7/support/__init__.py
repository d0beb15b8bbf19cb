"""What any program needs: whole files, worker processes, what differs between systems, words, torchvision."""

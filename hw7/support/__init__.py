"""What any program needs: whole files, digests, worker processes, what differs between systems, words, torchvision."""

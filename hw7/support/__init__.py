"""What any program needs: whole files, worker processes, streams and accounts on any system, torchvision."""

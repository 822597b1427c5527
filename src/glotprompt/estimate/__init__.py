"""What a method takes: parameters, files, memory and time, before anything is trained."""

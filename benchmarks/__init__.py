"""Side by side with other libraries: speed, memory and compile time of one layer."""

"""The command lines `mvtf` and `mvtf-eval`: each command reads its options and calls the library once."""

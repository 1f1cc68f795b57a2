"""The command lines `mvtf` and `mvtf-eval`: options in, one call of the library, one line out."""

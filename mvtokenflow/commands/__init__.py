"""What the verbs of `mvtf` are made of: options in, one call of the library, one line out."""

"""The verbs of `mvtf-eval`: parse, one library call, print. Heavy imports stay inside the verbs."""

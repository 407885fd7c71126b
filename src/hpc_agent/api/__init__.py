"""The verbs as typed functions of Python: one function a verb, keyword arguments in, a typed result out."""

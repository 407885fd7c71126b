"""Views for reading: an answer as a person at a terminal wants it. A view is a pure function of the answer."""

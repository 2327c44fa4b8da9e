"""What runs in the subprocess: the project twice, before and after, and the functions that a fix changed.

Started by ``lossproof.verify.process`` alone. It needs torch and the standard library; it knows no rule and judges
nothing: it measures, and what it measured goes back as one JSON line for each unit.
"""

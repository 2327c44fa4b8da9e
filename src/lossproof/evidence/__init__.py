"""Every claim that lossproof makes, as an experiment that anyone can run: ``lossproof prove``.

A family is a folder, an experiment a file in it that defines ``EXPERIMENT``. Nothing here imports torch before an
experiment is run, so that claims can be listed without it.
"""

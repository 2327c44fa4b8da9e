"""``lossproof lsp``: the findings in an editor, as one types.

``documents`` holds what is open, ``project`` checks a folder with it, ``diagnostics``, ``hover`` and ``actions`` say
what an editor asks for, ``server`` hears and answers. Imported by the command alone: it needs pygls.
"""

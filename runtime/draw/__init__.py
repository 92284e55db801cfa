"""Pictures of graphs: layers, layout, SVG and PNG.

Begin at ``layout.py``, which decides where everything stands; ``svg.py`` and ``png.py`` draw it.
"""

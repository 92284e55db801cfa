"""Pictures of graphs: layers, layout, SVG and PNG."""

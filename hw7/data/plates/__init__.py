"""`plates`: pictures of dishes, drawn from tables. A recipe places things, a thing is a few parts, a part is one shape.

tables      what there is: colours, shapes, textures, things, and the recipes of each class
textures    the atlas of tiles that shapes are filled with
scene       what stands where: parameters as float64 on the host
shapes      a scene as one list of shapes
render      shapes to pixels, on any device: `draw`
source      plates as a source of data
"""

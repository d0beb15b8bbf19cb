"""`plates`: procedural pictures of dishes, drawn from tables, any number of them from a seed.

tables       what there is: colours, shapes, textures, things, and the recipes of each class
pretraining  other classes from the same tables, to pretrain on
textures     the texture atlas: tiles that shapes are filled with
scene        what stands where: random numbers to places, on the host
shapes       the display list: the shapes of a scene, back to front
render       shapes to pixels, on any device: `draw`
source       plates as a data source

A recipe places things on a dish, a thing is a few parts, a part is one shape.

Every picture is a function of (seed, split, index), difficulty and size, whatever the batch, the number of threads or
the device: parameters come from one counter-based generator an image, as float64 uniforms on the host; and all
arithmetic, there and on the device, is exactly rounded element by element (+ - * / sqrt floor, comparisons, integers).
There is no sin, exp or pow, no fused multiply-add, no reduction, and no division by a Python scalar, which CUDA
replaces by a multiplication. Positions and sizes are in units of half a picture, so that a scene does not depend on
its resolution.
"""

"""The course: student and instructor editions of the notebooks, and a bundle for offline rooms.

No science lives here. `exercises` knows the form of an exercise, `trial` tries exercises out,
`editions` makes the three editions, `bundle` what goes on a USB stick. See README.md.
"""

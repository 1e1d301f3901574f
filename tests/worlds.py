"""The embedded worlds, drawn when this file is imported: forks of the process that does so have them at no cost."""

from marquee.data.world import catalogue, posters, reviews

for draw in (catalogue.generate, reviews.write, posters.draw):
    draw(1)

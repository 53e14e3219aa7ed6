"""Dataset → model version. The only room that imports lightning; `run.train` is its door."""

from digitrec.caches import gather_caches

gather_caches()  # before lightning and matplotlib are imported, which make folders then

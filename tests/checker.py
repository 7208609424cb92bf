"""What holds calls to the annotations of the package: beartype; an int may stand for a float, as usual."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
